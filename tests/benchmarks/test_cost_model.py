import dataclasses
import math

import pytest
import torch

from benchmarks.cost_model import measurement
from benchmarks.cost_model.measurement import PASS, FunctionCost, NetworkCosts
from benchmarks.cost_model.view import EXHIBIT, split
from benchmarks.isolate import Peak
from benchmarks.problems import NetworkCase
from benchmarks.publish import publish
from lla.hessian.products.routes import ROUTES
from paper_tables.engine.records import read_records

CASE = NetworkCase("lenet", 4, (1, 32, 32))


def test_flops_of_a_product_of_matrices():
    a, b = torch.ones(2, 3), torch.ones(3, 5)
    assert measurement.flops(lambda: a @ b) == 2 * 2 * 3 * 5


@pytest.fixture(scope="module")
def measured():
    """LeNet, without processes of their own."""
    return measurement.measure(CASE, lambda *_: Peak(2**20, 2**21, 2**20), rounds=2)


def test_counted_flops_are_the_predicted_ones(measured):
    linearized = measured.functions["linearized"]
    assert linearized.flops == linearized.predicted_flops
    first = 3 * measured.forward_flops - measured.functions[PASS].flops  # of the first layer
    assert first == 2 * CASE.batch * 6 * 28 * 28 * 25
    retained, fresh = measured.functions["retained"], measured.functions["fresh"]
    assert retained.predicted_flops <= retained.flops <= 1.1 * retained.predicted_flops
    assert fresh.flops == retained.flops + measured.functions[PASS].flops


def test_what_was_measured_is_complete(measured):
    assert list(measured.functions) == [PASS, *ROUTES]
    assert measured.products == measured.predicted_products
    for name, work in measured.functions.items():
        assert work.seconds > 0
        assert 0 < work.matrix_share < 1
        assert (work.kept_bytes > 0) == (name in ("linearized", "retained"))
        assert (work.predicted_peak > 0) == (name != PASS)


def test_the_three_factors_multiply_to_the_seconds(measured):
    value = {
        (name, metric): float(number)
        for name, work in measured.functions.items()
        for metric, number in dataclasses.asdict(work).items()
    }
    for route in ROUTES:
        ratio = value[route, "seconds"] / value[PASS, "seconds"]
        assert math.prod(split(value, route)) == pytest.approx(ratio)


def planted(linearized=3.0):
    works = {
        PASS: FunctionCost(100, 100, 1.0, 0.5),
        "linearized": FunctionCost(190, 190, linearized, 0.25, 2**24, 2**26, 2**25, 9.0),
        "retained": FunctionCost(190, 190, 4.0, 0.5),
        "fresh": FunctionCost(290, 290, 5.0, 0.5),
    }
    return NetworkCosts(35, works, 6, 6)


def test_the_table_says_how_far_from_the_floor_and_why(tmp_path):
    for model in (planted(2.0), planted()):
        publish(EXHIBIT, measurement.product_records(CASE, model, True), tmp_path)
    text = (tmp_path / "benchmarks" / "cost_model.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("| lenet 4 ")]
    name, _, *entries = (cell.strip() for cell in line.strip("|").split("|"))
    assert [name, *entries] == [
        "lenet 4", "linearized", "3.00", "1.50", "1.900", "1.900", "0.79", "2.00", "3.0",
        "16", "32", "64",
    ]  # fmt: skip
    assert "above the floor by a factor of 1.50, most of it by what is done beside them" in text
    records = read_records(tmp_path / "records" / "cost_model.jsonl")
    assert {r.fidelity for r in records} == {"substitute"}
    assert len({r.key for r in records}) == len(records) == 3 + 4 * 8
