"""Ratios of means over probes, with their standard errors."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from lla.errors import InputError
from lla.estimate import Estimate


def ratio(tops: np.ndarray, bottoms: np.ndarray, matvecs: int) -> Estimate:
    """mean(tops) / mean(bottoms) by the jackknife (Quenouille 1956; Tukey 1958).

    The jackknife takes away the part of the bias that falls with 1 / n.

    Args:
        tops: [n], of the same probes as
        bottoms: [n].
        matvecs: products that they cost.

    Raises:
        InputError: all bottoms are zero.

    >>> ratio(np.array([1.0, 2.0]), np.array([2.0, 4.0]), 2)
    Estimate(value=0.5, stderr=0.0, n=2, matvecs=2)
    """
    n, top, bottom = len(tops), float(tops.sum()), float(bottoms.sum())
    if not bottom > 0:
        raise InputError(
            "every product with the matrix is zero, so no share of it is defined: the loss does "
            "not depend on these weights, so leave them out"
        )
    whole = top / bottom
    if n == 1:
        return Estimate(whole, None, 1, matvecs)
    without = (top - tops) / (bottom - bottoms)
    value = n * whole - (n - 1) * without.mean()
    stderr = math.sqrt((n - 1) / n * np.square(without - without.mean()).sum())
    return Estimate(float(value), stderr, n, matvecs)


def root(estimate: Estimate) -> Estimate:
    """The square root of an estimate, with the standard error by the delta method.

    >>> root(Estimate(0.25, 0.1, 8, 8))
    Estimate(value=0.5, stderr=0.1, n=8, matvecs=8)
    """
    value = math.sqrt(max(0.0, estimate.value))
    if not estimate.stderr:
        return replace(estimate, value=value)
    stderr = estimate.stderr / (2 * value) if value else math.sqrt(estimate.stderr)
    return replace(estimate, value=value, stderr=stderr)
