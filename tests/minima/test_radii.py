import numpy as np
import pytest

from lla.errors import InputError
from lla.minima.radii import FIRST, RATIO, first_crossings, node, step_below


def counted(function):
    """An excess that counts its points."""

    def excess(rays, c):
        excess.points += len(c)
        return function(rays, c)

    excess.points = 0
    return excess


@pytest.mark.parametrize("power", [1, 2, 7])
def test_radii_are_the_roots(power):
    expected = np.array([2e-3, 0.01, 0.4, 3.0, 99.0])
    radii, reached = first_crossings(lambda i, c: (c / expected[i]) ** power - 1, 5, 100.0)
    assert reached.all()
    np.testing.assert_allclose(radii, expected, rtol=1e-6)


def test_the_first_of_several_crossings_is_found():
    # above the cutoff between 0.2 and 0.5, and from 2 on
    radii, _ = first_crossings(lambda i, c: (c - 0.2) * (c - 0.5) * (c - 2.0), 1, 100.0)
    assert radii[0] == pytest.approx(0.2, rel=1e-6)


def test_radii_below_the_first_step_are_found():
    expected = np.array([3e-4, 2e-8])
    radii, _ = first_crossings(lambda i, c: c - expected[i], 2, 100.0)
    np.testing.assert_allclose(radii, expected, rtol=1e-6)


def test_a_jump_at_the_minimum_is_refused():
    with pytest.raises(InputError, match=r"reaches the cutoff at 1e-15 .* along 2 directions"):
        first_crossings(lambda i, c: np.ones(len(c)), 2, 100.0)


@pytest.mark.parametrize("reach", [0.2, 100.0])
def test_rays_that_stay_below_have_the_radius_reach(reach):
    radii, reached = first_crossings(lambda i, c: np.where(i == 1, c - 0.1, -1.0), 3, reach)
    assert reached.tolist() == [False, True, False]
    np.testing.assert_allclose(radii, [reach, 0.1, reach], rtol=1e-6)


def test_a_root_between_the_last_step_and_reach_is_found():
    reach = float(node(50, 1e9)) * 1.01
    expected = reach * 0.999
    radii, reached = first_crossings(lambda i, c: c - expected, 1, reach)
    assert reached.all()
    assert radii[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("start", [0, 20, 40])
def test_a_later_start_gives_the_same_bits_with_fewer_points(start):
    expected = np.array([0.15, 0.2, 0.4])
    full, late = (counted(lambda i, c: c**2 - expected[i] ** 2) for _ in range(2))
    radii, _ = first_crossings(full, 3, 100.0)
    again, _ = first_crossings(late, 3, 100.0, start=start)
    assert np.array_equal(radii, again)
    assert full.points - late.points == 3 * start


def test_a_ray_that_is_above_at_a_late_start_is_scanned_in_full():
    expected = np.array([5e-3, 1e-5, 0.3])
    radii, _ = first_crossings(lambda i, c: c - expected[i], 3, 100.0, start=40)
    np.testing.assert_allclose(radii, expected, rtol=1e-6)


def test_bisection_would_take_more_points():
    count = counted(lambda i, c: np.exp(5 * c) - np.exp(1.5))
    first_crossings(count, 1, 100.0)
    scanned = step_below(0.3) + 2
    assert count.points - scanned < 12  # log2(0.12 / 1e-6) = 17, and both ends


def test_steps_and_distances_belong_together():
    assert node(0, 1.0) == FIRST
    assert node(1000, 7.0) == 7.0
    assert step_below(FIRST * RATIO**9 * 1.01) == 9
