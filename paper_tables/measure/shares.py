"""The share of examples that a network recognises, with its binomial error."""

from __future__ import annotations

import math

from lla.estimate import Estimate


def percent(share: float, n: int) -> Estimate:
    """A share of n examples as an accuracy in percent.

    >>> percent(0.5, 100)
    Estimate(value=50.0, stderr=5.0, n=100, matvecs=0)
    """
    return Estimate(100 * share, 100 * math.sqrt(share * (1 - share) / n), n, 0)
