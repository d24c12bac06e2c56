"""A target for the standard error: products saved, honest errors, seconds in accuracy passes."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import inputs
from benchmarks.adaptive import measurement
from benchmarks.adaptive.measurement import TARGET, HonestyCase, SavingCase
from benchmarks.adaptive.view import EXHIBIT, PLAIN

NETWORKS = {
    "tiny": [HonestyCase("convolutional", 1, 2, random=2000)],
    "quick": [HonestyCase("perceptron", 8, 20)],  # enough to find errors, too few to publish
    "paper": [HonestyCase("perceptron", 8, 200), HonestyCase("convolutional", 15, 200)],
}
CASES = {
    "tiny": [SavingCase(16, 5, examples=64, most=4)],
    "quick": [SavingCase(64, 100, rounds=5), SavingCase(512, 100, most=12)],
    "paper": [SavingCase(64, 100, rounds=5), SavingCase(512, 100), SavingCase(2048, 100)],
}


@pytest.mark.timeout(0)
def test_errors_are_honest_and_products_few(
    network: HonestyCase, size: str, benchmark: Any, save: Any
) -> None:
    """Bias, coverage and products over many repetitions, which the paper's size publishes."""
    found = benchmark.pedantic(measurement.repeat, args=(network,), rounds=1)
    new = measurement.honesty_records(network, found)
    benchmark.extra_info.update({record.metric: record.value for record in new})
    if size != "quick":
        save(EXHIBIT, new)
    if size != "tiny":
        value = {record.metric: record.value or 0.0 for record in new}
        assert 5 * value["products"] <= PLAIN
        assert value["coverage"] >= 0.9
        assert abs(value["bias"]) <= TARGET / 2


def test_seconds_beside_an_accuracy_pass(case: SavingCase, benchmark: Any, save: Any) -> None:
    """LeNet with a target and without one."""
    given = inputs.make("lenet", case.batch_size, case.most, inputs.SIDE, case.examples, "cpu")
    found = benchmark.pedantic(measurement.compare, args=(case, given), rounds=1)
    new = measurement.saving_records(case, given, found)
    benchmark.extra_info.update({f"{r.column} {r.metric}": r.value for r in new})
    save(EXHIBIT, new)
    if found["probes"].converged:
        assert found["probes"].products < found["fixed"].products
