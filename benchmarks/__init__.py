"""What the library costs: pytest-benchmark suites, ratios within one run."""
