"""The positive part v' H+ v of a quadratic form, from the tridiagonal matrix of a Lanczos run."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh_tridiagonal


def gauss_positive(alphas: np.ndarray, betas: np.ndarray) -> float:
    """The positive part by the Gauss rule, which may be above or below the true one.

    Args:
        alphas: diagonal of T [n].
        betas: off-diagonal of T [n - 1].
    """
    values, vectors = eigh_tridiagonal(alphas, betas)
    positive = values > 0
    return float(values[positive] @ vectors[0, positive] ** 2)


def lower_positive(alphas: np.ndarray, betas: np.ndarray) -> float:
    """The positive part by the Gauss-Radau rule with a node at zero: never above the true one.

    The rule (Golub 1973) has n nodes and is exact for polynomials of degree 2n - 2. Take the
    polynomial of that degree that touches |x| at the n - 1 other nodes and meets it at zero, where
    |x| has its kink. It is nowhere above |x|: divided by x it interpolates the sign, and by the
    number of zeros of its derivative it has only maxima where it is 1 and only minima where it is
    -1. So the rule gives a lower bound of v' |H| v, for the spectrum and for every Gauss rule of
    more steps. Its error decreases steadily with n, while the error of the Gauss rule depends on
    where its nodes are around zero. v' H+ v is half the sum of v' |H| v and v' H v, which is exact.

    Args:
        alphas: diagonal of T [n]; the last entry is not used.
        betas: off-diagonal of T [n - 1].

    >>> three = np.array([1.0, 0.0, 0.0]), np.array([2.0, 1.0])
    >>> lower_positive(*three) <= gauss_positive(*three)
    True
    """
    n = len(alphas)
    if n == 1:
        return max(0.0, float(alphas[0]))  # v' |H| v is at least |v' H v|
    head, beside = alphas[:-1], betas[: n - 2]
    values, vectors = eigh_tridiagonal(head, beside)
    size = np.abs(values).max() + abs(betas[n - 2])
    # the last diagonal entry for which zero is an eigenvalue of T
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        last = betas[n - 2] ** 2 * float((vectors[-1] ** 2 / values).sum())
    if not abs(last) < _FAR * size:  # zero is a node of the shorter rule already
        return gauss_positive(head, beside)
    return gauss_positive(np.append(head, last), betas[: n - 1])


_FAR = 1e8  # times all other nodes: a last node further out has no weight except rounding
