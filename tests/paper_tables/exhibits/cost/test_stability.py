import dataclasses

import numpy as np
import pytest

import lla
from paper_tables.engine import claims
from paper_tables.engine.profiles import PROFILES, adjusted
from paper_tables.engine.suite import Suite
from paper_tables.exhibits import find
from paper_tables.exhibits.cost import stability
from paper_tables.exhibits.table2 import cells as table2
from paper_tables.measure import lenet_criteria


def spectrum(eigenvalues, weights):
    eigenvalues = np.array(eigenvalues)
    counts = np.full(len(eigenvalues), eigenvalues.shape[1])
    return lla.Spectrum(
        eigenvalues, np.array(weights), counts, 100, eigenvalues.shape[1], 0, "float64", False, 1
    )


def test_spreads_against_hand_computed_ones():
    found = stability.spreads(
        spectrum([[-1.0, 1.0, 3.0], [-1.0, 1.0, 5.0]], [[0.2, 0.2, 0.6], [0.2, 0.4, 0.4]])
    )
    # by rank: -1, 1 do not vary; 3 and 5 have mean 4 and standard deviation sqrt 2
    assert found["spread_eigenvalues"] == pytest.approx(np.sqrt(2) / 4 / 3)
    weights = [0, np.sqrt(0.02) / 0.3, np.sqrt(0.02) / 0.5]
    assert found["spread_weights"] == pytest.approx(np.mean(weights))
    assert found["spread_re"] == pytest.approx(
        np.std([1 / 3, 1 / 5], ddof=1) / np.mean([1 / 3, 1 / 5])
    )
    kh1 = [0.2 / (0.2 + 1.8), 0.2 / (0.4 + 2.0)]
    assert found["spread_kh1"] == pytest.approx(np.std(kh1, ddof=1) / np.mean(kh1))


def test_runs_of_other_lengths_are_compared_from_the_top():
    found = spectrum([[1.0, 2.0, 0.0], [0.5, 1.0, 2.0]], [[0.5, 0.5, 0.0], [0.2, 0.4, 0.4]])
    found = dataclasses.replace(found, counts=np.array([2, 3]))
    assert stability.spreads(found)["spread_eigenvalues"] == 0


def test_the_cell_shares_the_spectra_of_table_2(without_data):
    profile = adjusted(PROFILES["quick"], batches=2, batch_size=16, probes=2, steps=4, epochs=1)
    settings = without_data(profile)
    (cell,) = stability.cells(settings)
    records = Suite(find(), settings).run(cell)
    assert [record.metric for record in records] == [*stability.SPREADS, *stability.SCATTER]
    found = {record.metric: record for record in records}
    assert all(found[name].value > 0 and found[name].n == 2 for name in stability.SPREADS)
    assert found["kh05_range_batches"].value >= 0
    one = dataclasses.replace(settings, profile=adjusted(profile, probes=1))
    (cell,) = stability.cells(one)
    assert "needs two" in cell.reason


def test_published_spectra_are_not_computed_again(without_data, monkeypatch):
    profile = adjusted(PROFILES["quick"], batches=2, batch_size=16, probes=3, steps=4, epochs=1)
    settings = without_data(profile)
    suite = Suite(find(), settings)
    cells = {cell.name: cell for cell in table2.cells(settings)}
    computed = suite.run(stability.cells(settings)[0])
    suite.run(cells["lenet-pretrained-eval-torch-plain"])
    monkeypatch.setattr(lenet_criteria, "criteria", lambda *_: pytest.fail("computed again"))
    (again,) = stability.cells(settings)
    read = stability._compute(again, settings)
    for one, other in zip(computed, read, strict=True):
        assert (one.metric, one.n, one.weights) == (other.metric, other.n, other.weights)
        assert one.value == pytest.approx(other.value, rel=1e-9)


def test_scatter_of_nested_samples():
    """Batches that differ by 2, probes by 1, both normal: variances add up."""
    rng = np.random.default_rng(0)
    values = 2 * rng.standard_normal((4000, 1)) + rng.standard_normal((4000, 3))
    found = stability.scatter(values)
    assert found["kh05_probes"].value == pytest.approx(1, rel=0.03)
    assert found["kh05_batches"].value == pytest.approx(2, rel=0.03)
    same = stability.scatter(np.tile(rng.standard_normal(5), (3, 1)))
    assert same["kh05_batches"].value == 0, "less than the probes' noise alone"


def planted(make_records, **values):
    values = {
        "spread_eigenvalues": 0.01,
        "spread_weights": 0.5,
        "spread_re": 0.02,
        "spread_kh1": 0.2,
        "spread_kh05": 0.1,
    } | values
    return make_records(values, "pretrained/eval", table="stability", stderr=1e-4)


def judged(records):
    return next(j for j in claims.judge(records, find()) if j.claim.id == "S.weights").verdict


def test_the_claim(make_records):
    assert judged(planted(make_records)) == "holds"
    assert judged(planted(make_records, spread_re=0.3)) == "fails"
    assert judged(planted(make_records, spread_weights=0.001)) == "fails"
    assert judged([]) == "not_run"
