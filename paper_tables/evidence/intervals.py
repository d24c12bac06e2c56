"""95 % intervals, and the verdicts that follow from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import stats

from lla.quantiles import student_t
from paper_tables.engine.exhibit import Verdict


def quantile(freedom: float) -> float:
    """Half the width of a 95 % interval in standard errors.

    >>> round(quantile(1), 1), round(quantile(3), 2), round(quantile(1e6), 2)
    (12.7, 3.18, 1.96)
    """
    return student_t(0.975, freedom)


def interval(samples: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the mean of some samples; None for fewer than two.

    >>> [round(bound, 3) for bound in interval([1.0, 2.0, 3.0])]
    [-0.484, 4.484]
    """
    if len(samples) < 2:
        return None
    mean = float(np.mean(samples))
    half = quantile(len(samples) - 1) * float(np.std(samples, ddof=1)) / math.sqrt(len(samples))
    return mean - half, mean + half


def difference_width(first: tuple[float, int], second: tuple[float, int]) -> float:
    """Half the width of the 95 % interval of a difference of two means (Welch 1947).

    Args:
        first: a standard error, and the samples behind it.
        second: the other.

    >>> round(difference_width((3.0, 2), (4.0, 3)), 2), difference_width((0.0, 2), (0.0, 2))
    (15.94, 0.0)
    """
    parts = [(error, n - 1) for error, n in (first, second)]
    variance = sum(error**2 for error, _ in parts)
    if variance == 0:
        return 0.0
    freedom = variance**2 / sum(error**4 / n for error, n in parts)
    return quantile(freedom) * math.sqrt(variance)


def deviation_interval(value: float, freedom: int) -> tuple[float, float]:
    """The 95 % interval of a standard deviation, or of a range, which is proportional to it.

    It takes the numbers to be normal.

    Args:
        value: the standard deviation.
        freedom: degrees of freedom, at least 1.

    >>> [round(bound, 2) for bound in deviation_interval(1.0, 7)]
    [0.66, 2.04]
    """
    low, high = (math.sqrt(freedom / stats.chi2.ppf(p, freedom)) for p in (0.975, 0.025))
    return value * low, value * high


def combined(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on a claim of several parts, each with a verdict.

    >>> combined(["holds", "undecided"]), combined(["holds", "undecided", "fails"])
    ('undecided', 'fails')
    """
    seen = set(verdicts)
    for verdict in ("not_run", "fails", "undecided"):
        if verdict in seen:
            return verdict
    return "holds"


def decided(difference: float, half: float) -> Verdict:
    """Whether a quantity lies above 0, by half the width of its 95 % interval.

    >>> decided(2.0, 1.0), decided(-2.0, 1.0), decided(2.0, 2.0)
    ('holds', 'fails', 'undecided')
    """
    if abs(difference) <= half:
        return "undecided"
    return "holds" if difference > 0 else "fails"
