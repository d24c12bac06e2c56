"""The share of examples that a network recognises, with its binomial error."""

from __future__ import annotations

import math

from lla.estimate import Estimate


def percent(share: float, n: int) -> Estimate:
    """A share of n examples as an accuracy in percent.

    The standard error is that of a share with half an example more on either side (the posterior
    mean under the prior of Jeffreys 1946), so it is not 0 where all examples are recognised.

    >>> percent(0.5, 100)
    Estimate(value=50.0, stderr=5.0, n=100, matvecs=0)
    >>> round(percent(1.0, 100).stderr, 2)
    0.7
    """
    smoothed = (share * n + 0.5) / (n + 1)
    return Estimate(100 * share, 100 * math.sqrt(smoothed * (1 - smoothed) / n), n, 0)
