import dataclasses

import numpy as np
import pytest

import lla
from paper_tables import claims, stability
from paper_tables.profiles import PROFILES, adjusted
from paper_tables.suite import Suite


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
    records = Suite(settings, say=lambda line: None).run(cell)
    assert [record.metric for record in records] == list(stability.METRICS)
    assert all(record.value > 0 and record.n == 2 for record in records)
    one = dataclasses.replace(settings, profile=adjusted(profile, probes=1))
    (cell,) = stability.cells(one)
    assert "needs two" in cell.reason


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
    return next(j for j in claims.judge(records) if j.claim.id == "S.weights").verdict


def test_the_claim(make_records):
    assert judged(planted(make_records)) == "holds"
    assert judged(planted(make_records, spread_re=0.3)) == "fails"
    assert judged(planted(make_records, spread_weights=0.001)) == "fails"
    assert judged([]) == "not_run"
