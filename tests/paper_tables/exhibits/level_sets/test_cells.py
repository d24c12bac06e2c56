import dataclasses

import numpy as np
import pytest
import torch

import lla
from lla import level_sets
from paper_tables.engine import store
from paper_tables.engine.profiles import PROFILES
from paper_tables.exhibits.level_sets import (
    EXHIBIT,
    cells,
    claims,
    comparison,
    figures,
    walks,
)
from paper_tables.exhibits.level_sets import families as fam

TINY = dataclasses.replace(fam.QUICK, images=30, unseen=40, level=0.2, seeds=2, steps=6)


@pytest.fixture
def settings(without_data, monkeypatch):
    monkeypatch.setattr(fam, "QUICK", TINY)
    monkeypatch.setattr(fam, "FAMILIES", (TINY,))
    return without_data(PROFILES["quick"])


def cell_of(settings, column, table=cells.TABLE):
    (found,) = [c for c in EXHIBIT.cells(settings) if (c.table, c.column) == (table, column)]
    return found


def test_cells_are_distinct_and_stand_ins(settings):
    found = EXHIBIT.cells(settings)
    assert len({cell.place for cell in found}) == len({cell.name for cell in found}) == 8
    assert {cell.fidelity for cell in found} == {"substitute"}


def test_networks_start_at_the_level_and_differ(settings):
    first, second = (fam.start(settings, TINY, seed) for seed in (0, 1))
    assert float(first.loss()) == pytest.approx(0.2, rel=2e-3)
    assert not torch.equal(first.theta(), second.theta())
    (x, y), (unseen, labels) = fam.examples(settings, TINY, 0)
    assert (x.shape, unseen.shape, len(y), len(labels)) == ((30, 1, 8, 8), (40, 1, 8, 8), 30, 40)
    clean, _ = fam.examples(settings, dataclasses.replace(TINY, noise=0.0), 0)
    noise = x - clean[0]
    assert float(noise.std()) == pytest.approx(0.25, rel=0.1)
    assert abs(float(noise.mean())) < 0.03


@pytest.mark.parametrize("walk", [walks.L2, walks.FREE, walks.TRACE])
def test_records_are_means_over_walks(settings, walk):
    cell = cell_of(settings, walk)
    records = {record.metric: record for record in cell.compute(cell, settings)}
    assert tuple(records) == cell.metrics
    paths = []
    for seed in range(2):
        _, test = fam.examples(settings, TINY, seed)
        paths.append(
            level_sets.walk(
                fam.start(settings, TINY, seed),
                0.2,
                walks.regularizer(walk),
                steps=6,
                test=test,
                kkt_tol=walks.KKT,
                measured=walks.measured(walk),
                seed=seed,
            )
        )
    changes = [100 * (path.test_loss[-1] / path.test_loss[0] - 1) for path in paths]
    record = records["test_change"]
    assert record.value == pytest.approx(np.mean(changes))
    assert record.stderr == pytest.approx(np.std(changes, ddof=1) / 2**0.5)
    assert (record.n, record.stderr_kind) == (2, "networks")
    assert records["deviation"].value == max(path.deviation for path in paths)
    kept = walks.Curves.load(store.artifact(records["deviation"], settings.work))
    np.testing.assert_allclose(kept.each("test_loss")[1], paths[1].test_loss, rtol=1e-6)
    if walk == walks.FREE:
        assert "rise" not in records
    else:
        assert records["rise"].value < 0
    if walk == walks.TRACE:
        ends = [path.other("trace")[-1] for path in paths]
        assert records["other_trace_end"].value == pytest.approx(np.mean(ends))
    if walk == walks.L2:
        minima = comparison.minima_around(fam.start(settings, TINY, 0), paths[0], walk)
        np.testing.assert_array_equal(kept.weighted[0], comparison.points(minima))
    for drawing in figures.figures(list(records.values())):
        assert drawing.draw(settings.work).axes


def test_all_walks_are_shown_in_one_basis(settings):
    cell = cell_of(settings, cells.TOGETHER, cells.PATHS)
    records = cell.compute(cell, settings)
    found = walks.Together.load(store.artifact(records[0], settings.work))
    assert found.names == (walks.L2, walks.JACOBIAN, walks.FREE)
    shares = [record.value for record in records]
    assert 1 >= shares[0] >= shares[1] > 0
    starts = [path[0] for path in found.each().values()]
    np.testing.assert_allclose(starts, [starts[0]] * 3, atol=1e-9)
    (drawing,) = figures.figures(records)
    assert drawing.draw(settings.work).axes


class End:
    """A walk that ends on a level with some R."""

    def __init__(self, end, level=0.01):
        self.level, self.regularizer = level, np.array([9.0, end])
        self.multiplier = np.array([0.3, 0.5])


def minimum(loss, R, residual=0.01):
    return level_sets.WeightedSum(
        *(np.array([value]) for value in (1.0, loss, R, residual, 0.5, 0.9)),
        gradients=np.array([9]), points=np.zeros((1, 2)), name="l2",
    )  # fmt: skip


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("minima", "end", "expected"),
    [
        ([(0.005, 4.0), (0.02, 1.0)], 2.1, 5.0),  # R is 2 half-way, in logarithms
        ([(0.002, 9.0), (0.005, 4.0), (0.02, 1.0)], 1.9, -5.0),
    ],
)
def test_the_distance_from_the_curve(minima, end, expected, order):
    found, why = comparison.off_curve(End(end), [minimum(*each) for each in minima][-2:][::order])
    assert (found, why) == (pytest.approx(expected), "")


@pytest.mark.parametrize(
    ("minima", "why"),
    [
        ([minimum(0.02, 1.0), minimum(1e-9, 0.4)], comparison.RAN_AWAY),
        ([minimum(0.02, 1.0), minimum(0.005, 4.0, residual=0.04)], comparison.NOT_ENDED),
        ([minimum(0.04, 1.0), minimum(0.02, 2.0)], comparison.NOT_REACHED),
        ([minimum(0.04, 1.0)], comparison.NOT_REACHED),
    ],
)
def test_there_is_no_distance_without_minima_on_both_sides(minima, why):
    assert comparison.off_curve(End(1.0), minima) == (None, why)


class Line(torch.nn.Module):
    """Loss (w - 3)^2 by the mean squared error, so that L + lambda w^2 has w = 3 / (1 + lambda)."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor([2.9], dtype=torch.float64))

    def forward(self, x):
        return x * self.w


@pytest.mark.parametrize(("multiplier", "steps"), [(0.1, 2), (0.01, 4), (1.0, 6)])
def test_lambda_is_halved_or_doubled_until_the_level_lies_between(multiplier, steps):
    x = torch.ones(1, 1, dtype=torch.float64)
    problem = lla.Problem(Line(), (x, 3 * x), loss=torch.nn.MSELoss())
    path = End(7.0, level=0.1)
    path.multiplier = np.array([multiplier])
    minima = comparison.minima_around(problem, path, walks.L2)
    assert len(minima) == steps
    for k, each in enumerate(minima):
        sign = 1 if minima[0].loss[0] < path.level else -1
        weight = 2 * multiplier * 2.0 ** (sign * k)
        assert each.weights[0] == pytest.approx(weight)
        assert each.regularizer[0] == pytest.approx((3 / (1 + weight)) ** 2, rel=0.01)
    low, high = sorted(each.loss[0] for each in minima[-2:])
    assert low <= path.level <= high
    exact = (3 - 0.1**0.5) ** 2  # w^2 where (w - 3)^2 is the level
    found, _ = comparison.off_curve(path, minima)
    assert found == pytest.approx(100 * (7 / exact - 1), abs=2)


def test_every_scope_of_a_claim_is_judged():
    stated = {(claim.id, scope) for claim in EXHIBIT.statements for scope in claim.scopes}
    assert stated == set(claims.CLAIMS)


def test_the_level_is_checked_by_a_plain_call_of_the_network(settings):
    problem, path = fam.start(settings, TINY, 0), walks.walked(settings, TINY, walks.L2, 0)
    assert walks.plain_deviation(problem, path) == pytest.approx(path.deviation, abs=1e-8)
    moved = dataclasses.replace(path, points=1.1 * path.points)
    assert moved.deviation == path.deviation  # what the walk itself says
    assert walks.plain_deviation(problem, moved) > 0.02


def test_the_configuration_says_how_walks_and_curves_are_computed(settings):
    config = cell_of(settings, walks.JACOBIAN).config
    assert {"step", "max_step", "momentum", "tol", "kkt_tol", "max_gradients", "most"} <= set(
        config
    )
    assert config["max_gradients"] == comparison.GRADIENTS[walks.JACOBIAN] == 60
