import math

import numpy as np
import pytest

import lla
from lla.landscape import asymmetry, explosion

X = np.linspace(-1, 1, 41)
A, B = np.meshgrid(X, X, indexing="ij")


@pytest.mark.parametrize(
    ("top", "verdict"),
    [(1.0, "none"), (9.99, "none"), (10.0, "rises"), (99.9, "rises"), (100.0, "explodes"),
     (1e30, "explodes")],
)  # fmt: skip
def test_thresholds(top, verdict):
    found = explosion(np.array([0.5, top, 0.1]), 1.0, None)
    assert found.verdict == verdict
    assert found.ratio == top
    assert (found.nonfinite, found.points) == (0, 3)


def test_other_thresholds():
    loss = np.array([5.0])
    assert explosion(loss, 1.0, None, explodes=5.0, rises=2.0).verdict == "explodes"
    assert explosion(loss, 1.0, None, explodes=5.1, rises=5.0).verdict == "rises"
    assert explosion(loss, 1.0, None, explodes=5.1, rises=5.1).verdict == "none"


@pytest.mark.parametrize(
    ("center", "classes", "unit"),
    [(0.1, 10, math.log(10)), (5.0, 10, 5.0), (0.1, None, 0.1), (0.1, 1, 0.1),
     (-3.0, 4, math.log(4)), (0.0, 1000, math.log(1000))],
)  # fmt: skip
def test_unit_is_the_larger_of_the_centre_and_guessing(center, classes, unit):
    assert explosion(np.array([7.0, 1.0]), center, classes).ratio == pytest.approx(7.0 / unit)


@pytest.mark.parametrize("bad", [np.inf, np.nan, -np.inf])
def test_any_value_that_is_not_finite_explodes(bad):
    loss = np.array([[1.0, bad], [bad, 3.0]], np.float32)
    found = explosion(loss, 2.0, None)
    assert (found.verdict, found.ratio, found.nonfinite, found.points) == ("explodes", 1.5, 2, 4)
    nothing = explosion(np.array([bad]), 2.0, None)
    assert (nothing.verdict, nothing.ratio, nothing.nonfinite) == ("explodes", 0.0, 1)


def test_values_at_the_end_of_float32():
    top = np.finfo(np.float32).max
    found = explosion(np.array([top], np.float32), 1e-3, None)
    assert found.ratio == pytest.approx(float(top) * 1e3)  # above float32
    assert found.nonfinite == 0


@pytest.mark.parametrize(
    ("loss", "center", "classes", "options", "error", "message"),
    [
        ([], 1.0, 2, {}, lla.InputError, "the plane has no evaluated point"),
        ([1.0], 0.0, None, {}, lla.InputError, "the loss at the centre is 0.0, so there is no"),
        ([1.0], -1.0, 1, {}, lla.InputError, "so there is no unit to measure a rise in"),
        ([1.0], 1.0, 2, {"rises": 0.0}, lla.InputError, "thresholds are rises=0.0, explodes=100"),
        ([1.0], 1.0, 2, {"rises": 200.0}, lla.InputError, "keep their order"),
        ([1.0], 1.0, 2, {"explodes": math.nan}, lla.InputError, "keep their order"),
        ([1.0], math.nan, 2, {}, lla.NonFiniteError, "the loss at the centre is nan"),
        ([1.0], math.inf, 2, {}, lla.NonFiniteError, "the loss at the centre is inf: check"),
    ],
)
def test_bad_planes(loss, center, classes, options, error, message):
    with pytest.raises(error, match=message):
        explosion(np.array(loss), center, classes, **options)


@pytest.mark.parametrize("level", [-1.0, 0.0, 0.003, 0.2, 1.0, 5.0, 100.0])
def test_a_quadratic_is_symmetric_at_any_level(level):
    loss = 3 * A**2 + 2 * A * B + 2 * B**2
    found = asymmetry(loss, (X, X), level)
    assert found.share == 0
    assert found.offset == pytest.approx((0.0, 0.0), abs=1e-12)
    inside = [(a, b) for a in X for b in X if 3 * a * a + 2 * a * b + 2 * b * b <= level]
    assert found.points == max(0, len(inside) - 1)
    assert found.level == level


def test_an_odd_cubic_is_nowhere_symmetric():
    found = asymmetry(X**3, (X,), -1e-6)
    assert (found.share, found.points) == (1.0, 20)
    assert found.offset == pytest.approx((-0.525,))  # the mean of -0.05, ..., -1
    # above 0, the set is all to the left of a point to the right
    found = asymmetry(X**3, (X,), 0.15**3 + 1e-9)
    assert found.points == 23
    assert found.share == pytest.approx(17 / 23)  # -1 to -0.2 have no mirror image
    assert found.offset == pytest.approx(((-10.5 + 0.3) / 23,))


@pytest.mark.parametrize("shift", [(0.25, 0.0), (0.1, -0.3), (0.0, 0.5)])
def test_offset_of_a_shifted_bowl_is_its_shift(shift):
    loss = (A - shift[0]) ** 2 + (B - shift[1]) ** 2
    found = asymmetry(loss, (X, X), 0.2**2 + 1e-9)
    inside = {(round(a * 20), round(b * 20)) for a in X for b in X
              if (a - shift[0]) ** 2 + (b - shift[1]) ** 2 <= 0.2**2 + 1e-9} - {(0, 0)}  # fmt: skip
    assert found.points == len(inside)
    lonely = [p for p in inside if (-p[0], -p[1]) not in inside]
    assert found.share == pytest.approx(len(lonely) / len(inside))
    assert found.share > 0.5
    centroid = np.array(sorted(inside)).mean(0) / 20
    np.testing.assert_allclose(found.offset, centroid, atol=1e-12)
    np.testing.assert_allclose(found.offset, shift, atol=0.01)


def test_what_is_not_finite_lies_above_every_level():
    loss = A**2 + B**2
    loss[30, 20], loss[20, 30], loss[0, 0] = np.nan, np.inf, np.nan
    found = asymmetry(loss, (X, X), 0.3)
    whole = asymmetry(A**2 + B**2, (X, X), 0.3)
    assert whole.share == 0
    assert found.points == whole.points - 2
    assert found.share == pytest.approx(2 / found.points)


def test_an_empty_set_says_nothing():
    found = asymmetry(A**2 + B**2, (X, X), -1.0)
    assert (found.share, found.offset, found.points) == (0.0, (0.0, 0.0), 0)
    only_center = asymmetry(A**2 + B**2, (X, X), 1e-9)
    assert only_center.points == 0


@pytest.mark.parametrize(
    ("coordinates", "level", "message"),
    [
        (X + 0.01, 1.0, "the coordinates run from -0.99 to 1.01: asymmetry is about the centre"),
        (np.abs(X), 1.0, "needs them symmetric about 0"),
        (X, math.nan, "the level is nan: give a finite loss"),
        (X, math.inf, "the level is inf"),
    ],
)
def test_bad_sublevel_sets(coordinates, level, message):
    with pytest.raises(lla.InputError, match=message):
        asymmetry(X**2, (coordinates,), level)
