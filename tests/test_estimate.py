import math

import numpy as np
import pytest

from lla import Estimate


def test_mean_and_standard_error():
    samples = np.array([1.0, 4.0, 2.0, 9.0])
    estimate = Estimate.of(samples, matvecs=12)
    assert estimate.value == pytest.approx(4.0)
    assert estimate.stderr == pytest.approx(samples.std(ddof=1) / 2)
    assert (estimate.n, estimate.matvecs) == (4, 12)
    assert isinstance(estimate.value, float)
    assert isinstance(estimate.stderr, float)


def test_one_sample_has_no_standard_error():
    estimate = Estimate.of([3.0], matvecs=1)
    assert estimate.stderr is None
    assert str(estimate) == "3"


def test_equal_samples_have_none_to_speak_of():
    assert Estimate.of([2.0] * 5, matvecs=0).stderr == 0


def test_text():
    assert str(Estimate(0.31416, 0.0271, 10, 1000)) == "0.3142 ± 0.027"


def test_estimates_cannot_be_changed():
    with pytest.raises(AttributeError):
        Estimate(1.0, 0.1, 2, 3).value = 2.0


ONE = Estimate(0.25, 0.01, 4, 40)


def test_as_a_number_it_is_its_value():
    assert float(ONE) == 0.25
    assert math.sqrt(ONE) == 0.5
    assert np.asarray([ONE, 1.0], dtype=float).tolist() == [0.25, 1.0]
    assert (f"{ONE:.3f}", f"{ONE:.1e}", f"{ONE:8.2f}") == ("0.250", "2.5e-01", "    0.25")
    assert f"{ONE}" == str(ONE) == "0.25 ± 0.01"


@pytest.mark.parametrize("kind", [float, np.float32, np.float64, lambda v: Estimate(v, None, 1, 1)])
def test_comparisons_are_those_of_the_values(kind):
    for other in (0.125, 0.25, 0.5):
        number = kind(other)
        assert (number > ONE) == (number > ONE) == (other > 0.25)
        assert (number >= ONE) == (number >= ONE) == (other >= 0.25)
        assert (number < ONE) == (number < ONE) == (other < 0.25)
        assert (number <= ONE) == (number <= ONE) == (other <= 0.25)


def test_comparisons_with_integers_arrays_and_sorting():
    assert ONE < 1
    assert ONE > 0
    assert (np.array([0.0, 1.0]) > ONE).tolist() == [False, True]
    other = Estimate(0.125, 0.5, 9, 9)
    assert sorted([ONE, other]) == [other, ONE]
    assert max(ONE, other) is ONE


@pytest.mark.parametrize("other", ["0.5", None, [1.0], 1j])
def test_what_is_no_number_cannot_be_compared(other):
    with pytest.raises(TypeError, match="not supported between"):
        assert other > ONE


def test_equality_and_hash_are_those_of_all_fields():
    assert Estimate(0.25, 0.01, 4, 40) == ONE
    assert len({ONE, Estimate(0.25, 0.01, 4, 40), Estimate(0.25, 0.02, 4, 40)}) == 2
    assert Estimate(0.25, 0.02, 4, 40) != ONE
    assert ONE != 0.25


def test_nothing_holds_of_what_was_not_measured():
    missing = Estimate(math.nan, None, 0, 7)
    assert not any((missing < 1, missing > 1, missing <= 1, missing >= 1, missing > ONE))
    assert math.isnan(float(missing))
