import math

import numpy as np
import pytest
import torch
from scipy.special import ndtri

from lla.errors import InputError
from lla.minima import calibration, radial_index
from lla.minima.ellipsoids import log10_index, log_ball
from tests.minima.bowls import bowl


@pytest.mark.parametrize(("n", "volume"), [(1, 2), (2, math.pi), (3, 4 * math.pi / 3)])
def test_volumes_of_balls(n, volume):
    assert math.exp(log_ball(n)) == pytest.approx(volume)
    # a ball of radius 3
    found = log10_index(np.full(7, 3.0), n)
    assert found == pytest.approx(math.log10(volume * 3**n))


@pytest.mark.parametrize("n", [10, 100, 3488])
def test_a_ball_is_measured_right(n):
    found = calibration(n, spread=0)
    assert found.true == pytest.approx(log_ball(n) / math.log(10))
    assert found.shortfall == pytest.approx(0, abs=1e-8)


def test_in_two_dimensions_an_ellipse_is_measured_right():
    found = [calibration(2, 2000, 1.0, seed).shortfall for seed in range(20)]
    assert abs(np.mean(found)) < 3 * np.std(found) / 20**0.5
    assert np.std(found) < 0.02


@pytest.mark.parametrize(
    ("n", "directions", "low", "high"),
    # the other check of the work: 3.5, 97 and 5462 with eigenvalues drawn at random
    [(10, 2000, 2.5, 4.5), (100, 2000, 75, 115), (3488, 2000, 5300, 5700)],
)
def test_an_ellipsoid_is_measured_far_too_small(n, directions, low, high):
    assert low < calibration(n, directions, 2.0).shortfall < high


@pytest.mark.parametrize(("n", "spread"), [(10, 0.0), (10, 2.0), (60, 0.0), (60, 1.0)])
def test_calibration_is_what_the_search_gives_for_an_ellipsoid(n, spread):
    logs = spread * ndtri((np.arange(n) + 0.5) / n)
    found = radial_index(bowl(0.1 * 10**logs), directions=100)
    expected = [calibration(n, 100, spread, seed).index for seed in range(20)]
    width = 4 * np.std(expected) + 1e-5
    assert found.log10_index == pytest.approx(np.mean(expected), abs=width)
    assert found.log10_jensen <= found.log10_index + 1e-12
    if spread == 0:
        assert found.log10_index == pytest.approx(log_ball(n) / math.log(10), abs=1e-4)
        assert found.n == n


def test_levels_are_as_good_as_single_eigenvalues():
    n, spread = 3000, 0.5
    logs = spread * ndtri((np.arange(n) + 0.5) / n)
    u = torch.randn(200, n, dtype=torch.float64).numpy()
    radii = ((u**2 * 10**logs).sum(1) / (u**2).sum(1)) ** -0.5
    assert calibration(n, 200, spread).index == pytest.approx(log10_index(radii, n), abs=15)
    # the difference from a ball is far larger
    assert calibration(n, 200, spread).shortfall > 300


@pytest.mark.parametrize(
    "wrong", [{"n": 0}, {"directions": 0}, {"spread": -1.0}, {"spread": math.inf}, {"seed": -1}]
)
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(InputError):
        calibration(**{"n": 5, **wrong})
