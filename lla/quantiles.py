"""Quantiles from `scipy.special`: importing `scipy.stats` for them takes half a second."""

from __future__ import annotations

import math

from scipy.special import ndtri, stdtrit


def normal(probability: float) -> float:
    """The quantile of a standard normal number.

    >>> round(normal(0.975), 2)
    1.96
    """
    return float(ndtri(probability))


def student_t(probability: float, dof: float) -> float:
    """The quantile of Student's t distribution.

    Args:
        probability: of a number below the quantile.
        dof: degrees of freedom, not necessarily a whole number; inf gives the normal quantile.

    >>> round(student_t(0.975, 3), 2)  # of a mean of four numbers
    3.18
    """
    return normal(probability) if dof == math.inf else float(stdtrit(dof, probability))


def widening(dof: float) -> float:
    """Half a 95 % interval by Student's t against that of a normal number.

    >>> round(widening(3), 2)  # of a mean of four numbers
    1.62
    """
    return student_t(0.975, dof) / normal(0.975)
