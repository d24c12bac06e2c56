import math

import numpy as np
import pytest
from scipy import stats

from paper_tables.evidence.intervals import combined, decided, difference_width, interval, quantile


@pytest.mark.parametrize("freedom", [1, 2, 3.5, 9, 1e6])
def test_quantiles_are_those_of_student(freedom):
    assert quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom))


@pytest.mark.parametrize("samples", [[1.0, 4.0], [0.5, -2.0, 3.0, 3.5, 10.0]])
def test_an_interval_is_scipys(samples):
    expected = stats.ttest_1samp(samples, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose(interval(samples), expected)


def test_one_sample_has_no_interval():
    assert interval([3.0]) is None
    assert interval([]) is None


@pytest.mark.parametrize(
    ("first", "second"), [([1.0, 2.0, 5.0], [3.0, 3.5]), ([1.0, 2.0, 2.0, 9.0], [4.0, 4.0, 5.0])]
)
def test_a_difference_is_welchs(first, second):
    def mean(values):
        return float(np.std(values, ddof=1)) / math.sqrt(len(values)), len(values)

    low, high = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert difference_width(mean(first), mean(second)) == pytest.approx((high - low) / 2)


def test_a_difference_from_an_exact_value_has_the_other_ones_error():
    assert difference_width((0.0, 2), (1.0, 4)) == pytest.approx(quantile(3))
    assert difference_width((0.0, 2), (0.0, 5)) == 0


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], "holds"), (["holds", "holds"], "holds"), (["holds", "undecided"], "undecided"),
        (["undecided", "fails", "holds"], "fails"), (["fails", "not_run", "holds"], "not_run"),
    ],
)  # fmt: skip
def test_the_worst_part_decides(verdicts, expected):
    assert combined(verdicts) == expected


@pytest.mark.parametrize(
    ("difference", "half", "expected"),
    [
        (1.0, 0.5, "holds"), (-1.0, 0.5, "fails"), (0.5, 0.5, "undecided"),
        (-0.5, 0.5, "undecided"), (0.0, 0.0, "undecided"), (1e-9, 0.0, "holds"),
    ],
)  # fmt: skip
def test_an_interval_that_reaches_0_decides_nothing(difference, half, expected):
    assert decided(difference, half) == expected
