import math

import pytest
import torch

from benchmarks.cost_model import measurement
from benchmarks.cost_model.measurement import PASS
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
    assert measured["linearized"]["flops"] == measured["linearized"]["predicted_flops"]
    step = measured[PASS]["flops"]
    first = 3 * measured["forward"]["flops"] - step  # of the first layer
    assert first == 2 * CASE.batch * 6 * 28 * 28 * 25
    retained, predicted = (measured["retained"][name] for name in ("flops", "predicted_flops"))
    assert predicted <= retained <= 1.1 * predicted
    assert measured["fresh"]["flops"] == retained + step


def test_what_was_measured_is_complete(measured):
    assert list(measured) == ["forward", "spectrum", PASS, *ROUTES]
    assert measured["spectrum"]["products"] == measured["spectrum"]["predicted_products"]
    for name in (PASS, *ROUTES):
        work = measured[name]
        assert work["seconds"] > 0
        assert 0 < work["matrix_share"] < 1
        assert (work["kept_bytes"] > 0) == (name in ("linearized", "retained"))
        assert (work["predicted_peak"] > 0) == (name != PASS)


def test_the_three_factors_multiply_to_the_seconds(measured):
    for route in ROUTES:
        ratio = measured[route]["seconds"] / measured[PASS]["seconds"]
        factors = split(measured[route], measured[PASS])
        assert math.prod(factors.values()) == pytest.approx(ratio)


METRICS = ("flops", "predicted_flops", "seconds", "matrix_share", "kept_bytes", "predicted_peak",
           "peak", "setup")  # fmt: skip


def cost(*values):
    return dict.fromkeys(METRICS, 0) | dict(zip(METRICS, values, strict=False))


def planted(linearized=3.0):
    return {
        "forward": {"flops": 35},
        "spectrum": {"products": 6, "predicted_products": 6},
        PASS: cost(100, 100, 1.0, 0.5),
        "linearized": cost(190, 190, linearized, 0.25, 2**24, 2**26, 2**25, 9.0),
        "retained": cost(190, 190, 4.0, 0.5),
        "fresh": cost(290, 290, 5.0, 0.5),
    }


def test_the_table_says_how_far_from_the_floor_and_why(tmp_path):
    for model in (planted(2.0), planted()):
        publish(EXHIBIT, measurement.product_records(CASE, model), tmp_path)
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
