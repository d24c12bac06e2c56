import dataclasses
import math

import numpy as np
import pytest
import torch

from benchmarks import inputs
from benchmarks.hesd_cost import measurement
from benchmarks.hesd_cost.measurement import BATCHES, PROBES, CostCase, Linear
from benchmarks.hesd_cost.view import EXHIBIT
from benchmarks.publish import publish
from lla.hessian.accuracy import Scatter
from paper_tables.engine.records import read_records
from tests.paper_tables.exhibits.cost.test_claims import planted, scattered


@pytest.fixture
def small(monkeypatch):
    """LeNet on the bundled digits, hardly trained."""
    monkeypatch.delenv("LLA_DATA", raising=False)
    monkeypatch.setattr(inputs, "EPOCHS", 1)
    monkeypatch.setattr(inputs.data, "load", _digits(inputs.data.load))
    case = CostCase("lenet", 32, 8, 4, 3, 2, ((1, 1), (2, 1)), examples=40)
    return case, inputs.make("lenet", 8, 2, 32, 40, "cpu")


def _digits(load):
    def digits(name, split):
        return load("digits", split) if name == "digits" else _missing()

    return digits


def _missing():
    raise inputs.MissingDataError("not here")


# --- scatter


def test_scatter_of_a_nested_design_is_unbiased():
    # the mean over many draws of the variances is what the values were drawn with
    random = np.random.default_rng(0)
    found = []
    for _ in range(3000):
        levels = random.normal(0, 2.0, (6, 1))
        found.append(Scatter.of(5 + levels + random.normal(0, 1.0, (6, 4))))
    assert np.mean([s.probes**2 for s in found]) == pytest.approx(1.0, rel=0.02)
    assert np.mean([s.batches**2 for s in found]) == pytest.approx(4.0, rel=0.05)
    assert np.mean([s.mean for s in found]) == pytest.approx(5.0, abs=0.05)


def test_standard_error_is_that_of_resampled_batches_and_probes():
    values = scattered(shape=(40, 60), seed=3)
    known, random = Scatter.of(values), np.random.default_rng(1)
    for probes, batches in ((1, 1), (5, 2), (1, 8), (10, 4)):
        estimates = []
        for _ in range(4000):
            rows = random.integers(0, 40, batches)
            columns = random.integers(0, 60, (batches, probes))
            estimates.append(values[rows[:, None], columns].mean())
        assert np.std(estimates) == pytest.approx(known.stderr(probes, batches), rel=0.05)


def test_more_of_either_is_surer():
    known = Scatter(0.16, 0.02, 0.04, (20, 8))
    errors = np.array([[known.stderr(p, b) for b in BATCHES] for p in PROBES])
    assert (np.diff(errors, axis=0) < 0).all()
    assert (np.diff(errors, axis=1) < 0).all()
    assert known.stderr(1, 1) == pytest.approx(math.hypot(0.02, 0.04))


def test_scatter_that_probes_alone_explain_leaves_none_to_batches():
    values = np.array([[1.0, 3.0], [3.0, 1.0]])
    assert Scatter.of(values).batches == 0.0


# --- time


def test_time_is_linear_in_probes_and_batches():
    linear = Linear.of({(1, 1): 3.0, (5, 2): 22.0})
    assert linear == Linear(setup=1.0, run=2.0)
    assert linear.seconds(10, 4) == 84.0


def test_linearity_is_of_the_budgets_that_the_prediction_is_not_from(monkeypatch):
    timed = {(1, 1): 3.0, (5, 1): 11.0, (2, 2): 11.0}
    records = planted(monkeypatch, timed=timed)
    (ratio,) = [r for r in records if r.column == "linearity"]
    assert (ratio.metric, ratio.value) == ("ratio 2 x 2", pytest.approx(1.1))


# --- accuracy passes


def test_both_passes_see_as_many_examples(small):
    _, given = small
    loader, resident = list(given.loader()), list(given.resident())
    assert sum(len(y) for _, y in loader) == sum(len(y) for _, y in resident) == 40
    assert loader[0][0].shape == resident[0][0].shape == (8, 1, 32, 32)
    assert given.fidelity == "substitute"


def test_the_loader_gives_what_the_batches_are_cut_from(small):
    _, given = small
    x, y = next(given.loader())
    (whole,) = inputs.data.batches(inputs.data.load("digits", "train"), 8, 1, size=32)
    torch.testing.assert_close(x, whole[0], rtol=0, atol=0)
    assert torch.equal(y, whole[1])


def test_accuracy_is_the_share_of_right_answers():
    class Sign(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([[-1.0], [1.0]]))

        def forward(self, x):
            return x @ self.weight.T

    x = torch.tensor([[1.0], [-1.0], [2.0]])
    assert inputs.accuracy(Sign(), [(x, torch.tensor([1, 0, 0]))]) == pytest.approx(2 / 3)


def test_photographs_come_in_two_forms(monkeypatch):
    monkeypatch.delenv("LLA_DATA", raising=False)
    given = inputs.make("squeezenet1_1", 4, 2, 32, 10, "cpu")
    x, _ = next(given.loader())
    assert [len(y) for _, y in given.resident()] == [4, 4, 2]
    assert x.shape == (4, 3, 32, 32)
    assert given.fidelity == "substitute"


def test_small_pictures_come_in_two_forms(monkeypatch):
    monkeypatch.delenv("LLA_DATA", raising=False)
    given = inputs.make("resnet20", 4, 2, 32, 10, "cpu")
    x, _ = next(given.loader())
    assert [len(y) for _, y in given.resident()] == [4, 4, 2]
    assert x.shape == given.pairs[0][0].shape == (4, 3, 32, 32)
    if given.data.name == "rendered-digits":  # else CIFAR-10 lies in the user's cache
        assert given.fidelity == "substitute"


# --- the whole, and what is written


def test_one_case_from_measurement_to_table(small, tmp_path):
    case, given = small
    before = [p.detach().clone() for p in given.model.parameters()]
    found = measurement.measure(case, given)
    assert all(torch.equal(a, b) for a, b in zip(before, given.model.parameters(), strict=True))
    assert found.kh05.shape == (2, 3)
    assert list(found.timed) == [(1, 1), (2, 1), (3, 2)]
    publish(EXHIBIT, measurement.cost_records(case, given, found), tmp_path)
    records = read_records(tmp_path / "records" / "cost.jsonl")
    assert {r.fidelity for r in records} == {"substitute"}
    seconds = {r.column: r for r in records if r.metric == "seconds"}
    assert len(seconds) == len(PROBES) * len(BATCHES)
    assert seconds["1 x 1"].note == "measured"
    assert seconds["20 x 8"].note == "predicted"
    assert len(measurement.raw(found)) == 2 * 3
    (png,) = (tmp_path / "benchmarks").glob("hesd_cost_lenet_*.png")
    assert png.stat().st_size > 1000
    assert f"]({png.name})" in (tmp_path / "benchmarks" / "hesd_cost.md").read_text()


def test_a_case_that_is_measured_again_takes_the_place_of_itself(monkeypatch, tmp_path):
    values = scattered()
    for loader in (1.0, 2.0):
        records = planted(monkeypatch, kh05=values, loader=loader)
        publish(EXHIBIT, records, tmp_path)
    passes = [
        r.value
        for r in read_records(tmp_path / "records" / "cost.jsonl")
        if r.metric == "seconds_loader"
    ]
    assert passes == [2.0]
    text = (tmp_path / "benchmarks" / "hesd_cost.md").read_text()
    assert text.count("## lenet") == 1
    assert "2 s with a DataLoader" in text


@pytest.mark.parametrize("batch_scatter", [0.0, 0.05])
def test_a_scatter_over_batches_that_was_cut_off_is_not_extrapolated(monkeypatch, batch_scatter):
    records = planted(monkeypatch, kh05=scattered())
    records = [
        dataclasses.replace(r, value=batch_scatter)
        if (r.column, r.metric) == ("scatter", "batches")
        else r
        for r in records
    ]
    (table,) = EXHIBIT.tables(records)
    column = table.columns.index("standard error of K_H05")
    texts = {line.entries[column].text for group in table.groups for line in group.lines}
    if batch_scatter:
        assert "over batches 0.05 (from" in table.legend
        assert "not estimated" not in texts
    else:
        assert "over batches not estimated" in table.legend
        assert texts == {"not estimated"}


def test_the_figure_marks_what_was_timed(monkeypatch):
    timed = {(1, 1): 0.25, (5, 1): 1.25}
    (drawing,) = EXHIBIT.figures(planted(monkeypatch, kh05=scattered(), timed=timed))
    (ax,) = drawing.draw(None).axes
    filled = [line for line in ax.lines if len(line.get_xdata()) == 1]
    assert sorted(float(line.get_xdata()[0]) for line in filled) == [0.25, 1.25]
    lines = [[float(x) for x in line.get_xdata()] for line in ax.lines]
    assert {x[0] for x in lines if len(x) == 2 and x[0] == x[1]} == {1.0, 0.5}
