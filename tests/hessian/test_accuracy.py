"""Errors of means over batches of means over probes, against their definitions and chance."""

import math

import numpy as np
import pytest
from scipy import stats

from lla.hessian.accuracy import (
    MIN_SAMPLES,
    Scatter,
    Spread,
    budget_stderr,
    probe_and_batch_ranges,
    reached,
    shortfall,
    spread,
)


def drawn(rng, batches, probes, between, within):
    """Samples of batches that differ by `between`, of probes that differ by `within`."""
    centers = 1 + between * rng.normal(size=batches)
    return [center + within * rng.normal(size=n) for center, n in zip(centers, probes, strict=True)]


def test_over_batches_it_is_the_error_of_independent_means():
    samples = [np.array([1.0, 2.0]), np.array([4.0]), np.array([8.0, 9.0, 13.0])]
    found = spread(samples, "batches")
    means = np.array([1.5, 4.0, 10.0])
    assert found.value == pytest.approx(means.mean())
    assert found.stderr == pytest.approx(means.std(ddof=1) / math.sqrt(3))
    assert found.dof == 2
    pooled = (0.5 + 0.0 + 14.0) / 3
    assert found.within == pytest.approx(math.sqrt(pooled * (1 / 2 + 1 + 1 / 3)) / 3)
    assert found.between == pytest.approx(math.sqrt(found.stderr**2 - found.within**2))
    half = stats.t.ppf(0.975, 2) * found.stderr
    np.testing.assert_allclose(found.interval, (found.value - half, found.value + half))


def test_over_probes_it_is_the_scatter_within_batches():
    samples = [np.array([1.0, 2.0]), np.array([40.0, 41.0])]
    found = spread(samples, "probes")
    assert found.stderr == found.within == pytest.approx(math.sqrt(0.5 * 1.0) / 2)
    assert found.dof == found.within_dof == 2


def test_what_cannot_be_known():
    one = spread([np.array([3.0])], "probes")
    assert (one.value, one.stderr, one.within, one.between) == (3.0, None, None, None)
    assert one.interval == (-math.inf, math.inf)
    assert spread([np.array([3.0])], "batches").stderr is None
    assert not reached(one, 100.0, "probes", "float64")


def test_a_known_part_is_taken_as_it_is():
    found = spread([np.array([3.0]), np.array([5.0])], "probes", 0.1)
    assert (found.stderr, found.factor, found.safe_stderr) == (0.1, 1.0, 0.1)


def test_both_parts_are_right_on_average():
    rng = np.random.default_rng(0)
    probes = [1, 2, 3, 1, 2, 2]
    found = [spread(drawn(rng, 6, probes, 0.3, 0.5), "batches") for _ in range(4000)]
    variance = np.var([f.value for f in found])
    assert np.mean([f.stderr**2 for f in found]) == pytest.approx(variance, rel=0.05)
    within = 0.25 * sum(1 / p for p in probes) / 36
    assert np.mean([f.within**2 for f in found]) == pytest.approx(within, rel=0.05)


def until_reached(rng, scatter, law):
    """Batches of one probe are added until their mean, 1, has the error that was asked for."""
    samples = []
    while True:
        step = scatter * rng.normal()
        value = 1 + step if law == "normal" else math.exp(step - scatter**2 / 2)
        samples.append(np.array([value]))
        if len(samples) >= MIN_SAMPLES:
            found = spread(samples, "batches")
            if reached(found, 0.05, "batches", "float64"):
                return found


@pytest.mark.parametrize("law", ["normal", "lognormal"])
@pytest.mark.parametrize("scatter", [0.1, 0.3])
def test_stopping_at_a_target_keeps_the_interval_honest(law, scatter):
    rng = np.random.default_rng(0)
    found = [until_reached(rng, scatter, law) for _ in range(400)]
    values = np.array([f.value for f in found])
    covered = np.mean([f.interval[0] <= 1 <= f.interval[1] for f in found])
    chance = 3 * values.std() / 20
    assert abs(values.mean() - 1) < 0.3 * np.mean([f.stderr for f in found]) + chance
    assert 0.89 < covered < 0.99
    assert values.std() < 1.2 * 0.05


@pytest.mark.parametrize(
    ("dof", "over", "enough"),
    [(3, "batches", True), (2, "batches", False), (4, "probes", True), (3, "probes", False)],
)
def test_a_target_takes_four_batches_or_four_differences_between_probes(dof, over, enough):
    assert reached(Spread(1.0, 1e-6, dof, None, 0), 0.05, over, "float64") is enough


@pytest.mark.parametrize("value", [2.0, -2.0])
def test_a_target_is_relative_and_met_by_the_enlarged_error(value):
    exact = Spread(value, 0.1, math.inf, None, 0)
    assert exact.safe_stderr == pytest.approx(0.1)
    assert reached(exact, 0.0500001, "batches", "float64")
    assert not reached(exact, 0.0499999, "batches", "float64")
    few = Spread(value, 0.1, 5, None, 0)
    needed = few.factor * 0.1 / 2
    assert few.factor == pytest.approx(stats.t.ppf(0.975, 5) / stats.norm.ppf(0.975))
    assert reached(few, needed * 1.000001, "batches", "float64")
    assert not reached(few, needed * 0.999999, "batches", "float64")


def test_an_error_below_rounding_counts_as_reached():
    eps = float(np.finfo("float32").eps)
    assert reached(Spread(0.0, 31 * eps, math.inf, None, 0), 0.1, "batches", "float32")
    assert not reached(Spread(0.0, 33 * eps, math.inf, None, 0), 0.1, "batches", "float32")
    assert not reached(Spread(0.0, 31 * eps, math.inf, None, 0), 0.1, "batches", "float64")


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Spread(1.0, None, 0, None, 0), "not known from so few samples"),
        (Spread(0.0, 0.123, 9, None, 0), "0.12 and the value 0"),
        (Spread(-2.0, 0.02, 2, None, 0), "0.01 of the value, but rests on fewer than four samples"),
        (Spread(-2.0, 0.3, math.inf, None, 0), "0.15 of the value, and 0.05 was asked for"),
        (Spread(1.0, 0.050001, math.inf, None, 0),
         "0.050001 of the value, and 0.05 was asked for"),
        (Spread(1.0, 0.1, 9, None, 0),
         "0.12 of the value (0.1, enlarged by Student's t for few samples), and 0.05 was asked "
         "for"),
    ],
)  # fmt: skip
def test_a_shortfall_in_words(found, text):
    assert shortfall(found, 0.05) == text


def test_scatter_is_right_on_average():
    rng = np.random.default_rng(0)
    found = [
        Scatter.of(5 + 2.0 * rng.normal(size=(8, 1)) + rng.normal(size=(8, 3))) for _ in range(2000)
    ]
    assert np.mean([s.mean for s in found]) == pytest.approx(5, abs=0.1)
    assert np.mean([s.probes**2 for s in found]) == pytest.approx(1.0, rel=0.03)
    assert np.mean([s.batches**2 for s in found]) == pytest.approx(4.0, rel=0.05)
    assert {s.samples for s in found} == {(3, 8)}


def test_scatter_by_its_formula():
    values = np.array([[1.0, 3.0], [7.0, 9.0], [10.0, 18.0]])
    found = Scatter.of(values)
    within, means = (2.0 + 2.0 + 32.0) / 3, np.array([2.0, 8.0, 14.0])
    assert found.probes == pytest.approx(math.sqrt(within))
    assert found.batches == pytest.approx(math.sqrt(means.var(ddof=1) - within / 2))
    assert found.stderr(2, 3) == pytest.approx(values.mean(1).std(ddof=1) / math.sqrt(3))
    assert found.stderr(5, 7) == budget_stderr(found.probes, found.batches, 5, 7)
    assert math.isnan(Scatter.of(values[:, :1]).probes)
    assert math.isnan(Scatter.of(values[:1]).batches)
    alike = Scatter.of(np.array([[0.0, 9.0], [9.0, 0.0]]))
    assert alike.batches == 0, "a negative variance counts as zero"


def test_ranges_over_probes_and_batches():
    probes, batches = probe_and_batch_ranges(np.array([[1.0, 3.0, 2.0], [5.0, 9.0, 10.0]]))
    assert (probes.value, probes.stderr) == (3.5, pytest.approx(1.5))
    assert batches == 6.0
