import dataclasses

import numpy as np
import pytest
import torch

from lla import level_sets
from paper_tables.engine import store
from paper_tables.engine.profiles import PROFILES
from paper_tables.exhibits.level_sets import EXHIBIT, cells, claims, figures, walks
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
        assert kept.weighted.shape == (2, 3, 2)
        curve = walks.curve_of(fam.start(settings, TINY, 0), paths[0], walk)
        np.testing.assert_allclose(kept.weighted[0, :, 0], curve.loss)
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


class Curve:
    def __init__(self, loss, regularizer):
        self.loss, self.regularizer = np.array(loss), np.array(regularizer)

    def at(self, level):
        return level_sets.WeightedSum.at(self, level)


class End:
    def __init__(self, level, end):
        self.level, self.regularizer = level, np.array([9.0, end])


@pytest.mark.parametrize(
    ("curve", "end", "expected"),
    [
        (Curve([0.005, 0.02], [4.0, 1.0]), 2.1, 5.0),  # R is 2 half-way, in logarithms
        (Curve([0.0, 0.0], [0.0, 0.0]), 2.1, walks.CAP),  # it ran away
        (Curve([0.002, 0.003], [0.5, 0.4]), 1.0, 150.0),  # lower in both
        (Curve([0.02, 0.04], [2.0, 1.0]), 2.1, 5.0),  # beyond the curve: its nearest end
    ],
)
def test_the_distance_from_the_curve(curve, end, expected):
    assert walks.off_curve(End(0.01, end), curve) == pytest.approx(expected)


def test_every_scope_of_a_claim_is_judged():
    stated = {(claim.id, scope) for claim in EXHIBIT.statements for scope in claim.scopes}
    assert stated == set(claims.CLAIMS)
