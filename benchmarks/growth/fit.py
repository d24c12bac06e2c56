"""Exponents: slopes of log(seconds) against log(size), one a round."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def slopes(sizes: Sequence[float], seconds: np.ndarray) -> np.ndarray:
    """The exponent of each round, by least squares.

    A speed that differs from round to round multiplies all points of a round, and so leaves its
    slope as it is.

    Args:
        sizes: along the axis [points], two or more.
        seconds: positive [rounds, points].

    Returns:
        [rounds].

    >>> slopes([1, 10, 100], np.array([[2.0, 200.0, 20000.0], [3.0, 30.0, 300.0]])).round(12)
    array([2., 1.])
    """
    x = np.log(np.asarray(sizes, dtype=float))
    x = x - x.mean()
    found: np.ndarray = np.log(seconds) @ x / (x @ x)
    return found


def upper(count: int) -> slice:
    """The upper half of some points, two at least: there a fixed cost weighs least.

    >>> [len(range(n)[upper(n)]) for n in (2, 4, 5, 6)]
    [2, 2, 3, 3]
    """
    return slice(count - max(2, math.ceil(count / 2)), count)
