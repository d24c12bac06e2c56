import dataclasses
import math

import pytest
import torch

from benchmarks import cost_model
from benchmarks.cost_model import PASS, Model, Work
from benchmarks.isolate import Peak
from benchmarks.problems import Case
from lla.hessian.products.routes import ROUTES
from lla.records import read_records

CASE = Case("lenet", 4, (1, 32, 32))


def test_flops_of_a_product_of_matrices():
    a, b = torch.ones(2, 3), torch.ones(3, 5)
    assert cost_model.flops(lambda: a @ b) == 2 * 2 * 3 * 5


@pytest.fixture(scope="module")
def measured():
    """LeNet, without processes of their own."""
    return cost_model.measure(CASE, lambda *_: Peak(2**20, 2**21, 2**20), rounds=2)


def test_counted_flops_are_the_predicted_ones(measured):
    linearized = measured.works["linearized"]
    assert linearized.flops == linearized.predicted_flops
    first = 3 * measured.forward_flops - measured.works[PASS].flops  # of the first layer
    assert first == 2 * CASE.batch * 6 * 28 * 28 * 25
    retained, fresh = measured.works["retained"], measured.works["fresh"]
    assert retained.predicted_flops <= retained.flops <= 1.1 * retained.predicted_flops
    assert fresh.flops == retained.flops + measured.works[PASS].flops


def test_what_was_measured_is_complete(measured):
    assert list(measured.works) == [PASS, *ROUTES]
    assert measured.products == measured.predicted_products
    for name, work in measured.works.items():
        assert work.seconds > 0
        assert 0 < work.matrix_share < 1
        assert (work.kept_bytes > 0) == (name in ("linearized", "retained"))
        assert (work.predicted_peak > 0) == (name != PASS)


def test_the_three_factors_multiply_to_the_seconds(measured):
    value = {
        (name, metric): float(number)
        for name, work in measured.works.items()
        for metric, number in dataclasses.asdict(work).items()
    }
    for route in ROUTES:
        ratio = value[route, "seconds"] / value[PASS, "seconds"]
        assert math.prod(cost_model.split(value, route)) == pytest.approx(ratio)


def planted(linearized=3.0):
    works = {
        PASS: Work(100, 100, 1.0, 0.5),
        "linearized": Work(190, 190, linearized, 0.25, 2**24, 2**26, 2**25, 9.0),
        "retained": Work(190, 190, 4.0, 0.5),
        "fresh": Work(290, 290, 5.0, 0.5),
    }
    return Model(35, works, 6, 6)


def test_the_table_says_how_far_from_the_floor_and_why(tmp_path):
    for model in (planted(2.0), planted()):
        cost_model.save(cost_model.entries(CASE, model, True), tmp_path)
    text = (tmp_path / "benchmarks" / "cost_model.md").read_text()
    (line,) = [line for line in text.splitlines() if "linearized " in line]
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "lenet 4", "linearized", "3.00", "1.50", "1.900", "1.900", "0.79", "2.00", "3.0",
        "16", "32", "64",
    ]  # fmt: skip
    assert "above the floor by a factor of 1.50, most of it by what is done beside them" in text
    records = read_records(tmp_path / "benchmarks" / "cost_model.jsonl")
    assert {r.fidelity for r in records} == {"substitute"}
    assert len({r.key for r in records}) == len(records) == 3 + 4 * 8
