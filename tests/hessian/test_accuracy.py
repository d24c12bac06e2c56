"""Errors of means over batches of means over probes, against their definitions and chance."""

import math

import numpy as np
import pytest
from scipy import stats

from lla.hessian.accuracy import MIN_SAMPLES, reached, spread


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
