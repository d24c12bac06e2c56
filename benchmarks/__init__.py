"""Benchmarks: what the library costs, as ratios within one run, by pytest-benchmark."""
