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
