"""A target for the standard error: products saved, honest errors, seconds beside accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import adaptive, adaptive_table, inputs
from benchmarks.adaptive import COUNT, Honesty, Saving

HONESTY = {
    "tiny": [Honesty("convolutional", 1, 2, random=2000)],
    "quick": [Honesty("perceptron", 8, 20)],  # to catch what is broken; too few to be published
    "paper": [Honesty("perceptron", 8, 200), Honesty("convolutional", 15, 200)],
}
CASES = {
    "tiny": [Saving(16, 5, examples=64, most=4)],
    "quick": [Saving(64, 100, rounds=5), Saving(512, 100, most=12)],
    "paper": [Saving(64, 100, rounds=5), Saving(512, 100), Saving(2048, 100)],
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the networks of the session's size to the test of honesty."""
    if "network" in metafunc.fixturenames:
        metafunc.parametrize("network", HONESTY[metafunc.config.getoption("size")], ids=str)


@pytest.mark.timeout(0)
def test_errors_are_honest_and_products_few(
    network: Honesty, size: str, benchmark: Any, allocator: bool, results: Path | None
) -> None:
    """Bias, coverage and products over many repetitions, which the paper's size publishes."""
    found = benchmark.pedantic(adaptive.repeat, args=(network,), rounds=1)
    new = adaptive_table.honesty_records(network, found, allocator)
    benchmark.extra_info.update({record.metric: record.value for record in new})
    if results is not None and size != "quick":
        adaptive_table.save(new, results)
    if size != "tiny":
        value = {record.metric: record.value or 0.0 for record in new}
        assert 5 * value["products"] <= adaptive_table.PLAIN
        assert value["coverage"] >= 0.9
        assert abs(value["bias"]) <= adaptive.TARGET / 2


def test_seconds_beside_an_accuracy_pass(
    case: Saving, benchmark: Any, allocator: bool, results: Path | None
) -> None:
    """LeNet with a target and without one."""
    given = inputs.make("lenet", case.batch_size, case.most, inputs.SIDE, case.examples, "cpu")
    many = given.pairs
    few = inputs.first(given, COUNT)
    found = benchmark.pedantic(adaptive.compare, args=(case, few, many), rounds=1)
    new = adaptive_table.saving_records(case, few, found, allocator)
    benchmark.extra_info.update({f"{r.column} {r.metric}": r.value for r in new})
    if results is not None:
        adaptive_table.save(new, results)
    if found.spent["probes"].converged:
        assert found.spent["probes"].products < found.spent["fixed"].products
