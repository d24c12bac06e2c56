import math

import numpy as np
import pytest
from scipy import stats

from paper_tables.exhibits.minima.groups import groups, pair, rank_correlation, telling
from paper_tables.exhibits.minima.measured import COMPARED, INDEX
from tests.paper_tables.planted_minima import minima, minimum


def test_groups_are_those_of_equal_settings():
    records = [*minima(), *minima("svhn")]
    other = minimum("mnist", "natural", 0.0, 7, test_accuracy=1.0)
    found = groups([*records, *other])
    assert list(found) == ["svhn", "mnist"]
    assert [(g.variant, len(g.reached)) for g in found["mnist"]] == [
        ("natural", 4), ("b = 0.1", 3), ("b = 0.3", 3),
    ]  # fmt: skip
    # a smaller family with other settings does not mix in
    few = [r for s in range(2) for r in minimum("mnist", "natural", 0.0, s, fidelity="paper")]
    few = [type(r)(**{**vars_of(r), "config": {**r.config, "directions": 99}}) for r in few]
    assert len(groups([*records, *few])["mnist"][0].reached) == 3


def test_what_was_tried_most_counts_and_not_what_reached_most():
    config = {"training": {"loss_bound": 0.5}}
    tried = [r for s in range(4) for r in minimum("mnist", "natural", 0.0, s)]
    tried = [r for r in tried if r.metric != INDEX]  # none came to a minimum
    tried = [type(r)(**{**vars_of(r), "config": {**r.config, **config}}) for r in tried]
    found = groups([*minima(), *tried])["mnist"][0]
    assert (len(found.tried), len(found.reached), found.count) == (4, 0, "0 of 4")


def test_groups_that_were_measured_otherwise_are_not_compared():
    records = minima()
    more = [r for s in range(5) for r in minimum("mnist", "natural", 0.0, s)]
    more = [type(r)(**{**vars_of(r), "config": {**r.config, "directions": 99}}) for r in more]
    found = groups([*records, *more])["mnist"]
    assert {g.tried[0][INDEX].config["directions"] for g in found} == {5}
    assert [len(g.reached) for g in found] == [3, 3, 3]


def vars_of(record):
    names = ("table", "row", "column", "metric", "value", "fidelity")
    return {name: getattr(record, name) for name in names}


def test_measures_are_compared_pair_by_pair():
    good, _, bad = pair(minima(), "mnist")
    found = {each.metric: each for each in telling(good, bad)}
    assert list(found) == list(COMPARED)
    assert {each.area for each in found.values()} == {1.0}
    assert found[INDEX].ratio == pytest.approx(
        np.concatenate([g.values(INDEX) for g in bad]).mean() - good.values(INDEX).mean()
    )
    assert found["mean_radius"].ratio == pytest.approx(0.05 / 0.41, rel=0.02)
    assert found[INDEX].n == 6


def test_a_measure_that_is_the_same_everywhere_is_chance():
    good, _, bad = pair(minima(kappa=1.0), "mnist")
    for group in bad:
        for metrics in group.reached:
            metrics["trace"] = good.reached[0]["trace"]
    found = {each.metric: each for each in telling(good, bad)}
    assert found["trace"].area == 0.5
    assert math.isnan(found["trace"].rho.value)


def test_rank_correlations_are_those_of_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 12))
    found = rank_correlation(x, y, np.arange(12.0))  # every network has a share of its own
    assert found.value == pytest.approx(stats.spearmanr(x, y).statistic)
    own = [stats.spearmanr(x[i], y[i]).statistic for i in rng.integers(12, size=(2000, 12))]
    np.testing.assert_allclose((found.low, found.high), np.percentile(own, (2.5, 97.5)), atol=0.05)
    same = rank_correlation(x, x, np.arange(12.0))
    assert (same.low, same.high) == pytest.approx((1.0, 1.0))
    assert math.isnan(rank_correlation(x[:5], y[:5], np.arange(5.0)).value)


def test_networks_of_one_share_are_no_evidence_of_their_own():
    rng = np.random.default_rng(1)
    shares = np.repeat(np.arange(5.0), 6)
    common = rng.normal(size=(2, 5))  # x and y of a share, unrelated to each other
    x, y = common.repeat(6, axis=1) + 0.01 * rng.normal(size=(2, 30))
    clusters = rank_correlation(x, y, shares)
    single = rank_correlation(x, y, np.arange(30.0))
    assert clusters.value == single.value
    assert clusters.high - clusters.low > 1.5 * (single.high - single.low)
    few = rank_correlation(x[:18], y[:18], shares[:18])  # of three shares
    assert math.isfinite(few.value)
    assert math.isnan(few.low)
    assert str(few) == f"{few.value:+.2f}"
