import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from paper_tables.evidence.resampling import drawn_by_group
from paper_tables.exhibits.flatness.correlation import best, correlations, members, verdict
from tests.paper_tables.planted_flatness import networks_of

RNG = np.random.default_rng(1)
GAPS = RNG.uniform(0.1, 1.0, 24)


def of(found, measure, rescaled=False, filtered=False):
    (one,) = [
        c for c in found if (c.measure, c.rescaled, c.filtered) == (measure, rescaled, filtered)
    ]
    return one


@pytest.fixture(scope="module")
def found():
    noisy = GAPS + RNG.normal(0, 0.2, 24)
    (family,) = members(networks_of(GAPS, kappa=GAPS**2, trace=noisy))
    return correlations(family, resamples=300)


def test_tau_and_r_are_those_of_scipy(found):
    (family,) = members(networks_of(GAPS, kappa=GAPS**2))
    for name in ("trace", "re"):
        mine = of(correlations(family, resamples=10), name)
        x = family.values[name]
        expected = stats.kendalltau(x, GAPS)
        assert mine.tau.value == pytest.approx(expected.statistic)
        assert mine.p == pytest.approx(expected.pvalue)
        assert mine.r.value == pytest.approx(stats.pearsonr(x, GAPS).statistic)


def test_a_bootstrap_of_tau_is_that_of_scipy_on_repeated_networks():
    (family,) = members(networks_of(GAPS, kappa=GAPS**2))
    mine = of(correlations(family, resamples=400, seed=3), "trace")
    x = family.values["trace"].to_numpy()
    drawn = np.random.default_rng(3).integers(24, size=(400, 24))
    taus = [stats.kendalltau(x[i], GAPS[i]).statistic for i in drawn]
    assert (mine.tau.low, mine.tau.high) == pytest.approx(np.percentile(taus, (2.5, 97.5)).tolist())
    rs = [np.corrcoef(x[i], GAPS[i])[0, 1] for i in drawn]
    assert (mine.r.low, mine.r.high) == pytest.approx(np.percentile(rs, (2.5, 97.5)).tolist())


def test_networks_of_one_training_count_as_one():
    rng = np.random.default_rng(5)
    ways = np.repeat(rng.uniform(0.1, 1.0, 6), 8)  # 48 networks, but 6 ways to train
    gaps = ways + rng.normal(0, 1e-3, 48)
    trace = np.repeat(rng.permutation(6), 8) + rng.normal(0, 1e-3, 48)
    (apart,) = members(networks_of(gaps, trace=trace))
    (together,) = members(networks_of(gaps, trace=trace, alike=8))
    assert len(np.unique(together.ways)) == 6
    one, other = (of(correlations(f, resamples=500), "trace").tau for f in (apart, together))
    assert one.value == other.value
    assert other.high - other.low > 2 * (one.high - one.low)
    drawn = drawn_by_group(together.ways, 500)
    taus = [stats.kendalltau(trace[i], gaps[i]).statistic for i in drawn]
    assert (other.low, other.high) == pytest.approx(np.percentile(taus, (2.5, 97.5)).tolist())
    for resample in drawn[:20]:
        assert all(n % 8 == 0 for n in np.bincount(together.ways[resample]))


def test_few_ways_to_train_have_no_interval():
    (family,) = members(networks_of(GAPS, alike=8))
    mine = of(correlations(family, resamples=20), "trace")
    assert math.isnan(mine.tau.low)
    assert mine.winner == "undecided"


def test_what_follows_the_gap_wins(found):
    first = of(found, "kappa")
    assert first.tau.value == pytest.approx(1)
    assert first.less_than_first is None
    assert of(found, "re").winner == "kappa"
    assert best(found).measure == "kappa"
    assert "kappa has the largest |tau|" in verdict(found)


def test_a_better_measure_than_kappa_is_named():
    (family,) = members(networks_of(GAPS, trace=GAPS))
    words = verdict(correlations(family, resamples=300))
    assert words.startswith("trace has the largest |tau|, +1.00 [+1.00, +1.00], against")
    assert "by more than chance kappa is beaten by trace" in words


def test_the_filter_drops_the_three_smallest_gaps(found):
    assert of(found, "kappa").n == 24
    assert of(found, "kappa", filtered=True).n == 21
    gaps = np.array([0.001, 0.002, 0.003, *np.linspace(1, 2, 9)])
    kappa = np.array([100.0, 200.0, 300.0, *np.linspace(1, 2, 9)])
    (family,) = members(networks_of(gaps, kappa=kappa))
    mine = correlations(family, resamples=50)
    assert of(mine, "kappa", filtered=True).tau.value == pytest.approx(1)
    assert of(mine, "kappa").tau.value < 0.5


def test_rescaled_values_are_taken_where_they_are_asked_for():
    records = networks_of(GAPS, kappa=GAPS)
    flipped = [
        dataclasses.replace(r, value=-r.value) if r.metric == "rescaled_kappa" else r
        for r in records
    ]
    (family,) = members(flipped)
    mine = correlations(family, resamples=20)
    assert of(mine, "kappa", rescaled=True).tau.value == pytest.approx(-1)
    assert of(mine, "kappa").tau.value == pytest.approx(1)


def test_a_constant_measure_has_no_correlation():
    (family,) = members(networks_of(GAPS, re=np.ones(24)))
    mine = of(correlations(family, resamples=20), "re")
    assert math.isnan(mine.tau.value)
    assert math.isnan(mine.r.value)
    assert str(mine.tau) == "—"


def test_too_few_networks_give_nothing():
    (family,) = members(networks_of(GAPS[:10]))
    assert correlations(family) == []


def test_networks_of_other_trainings_are_not_mixed_in():
    records = [*networks_of(GAPS), *networks_of(GAPS[:5], images=500, seed=4)]
    (family,) = members(records)
    assert len(family.values) == 24


def test_the_scatter_of_gaps_stands_beside_the_error_of_one():
    (family,) = members(networks_of(GAPS))
    assert family.spread["gap_loss"] == pytest.approx((GAPS.std(ddof=1), 0.01))
    assert family.spread["gap_accuracy"] == pytest.approx((10 * GAPS.std(ddof=1), 0.01))
