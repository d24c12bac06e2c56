"""The positive part v' H+ v of a quadratic form, from the tridiagonal matrix of a Lanczos run."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh_tridiagonal


def gauss_positive(alphas: np.ndarray, betas: np.ndarray) -> float:
    """The positive part by the Gauss rule, which may be above or below the true one.

    Args:
        alphas: diagonal of T [n].
        betas: what is beside it [n - 1].
    """
    values, vectors = eigh_tridiagonal(alphas, betas)
    positive = values > 0
    return float(values[positive] @ vectors[0, positive] ** 2)


def lower_positive(alphas: np.ndarray, betas: np.ndarray) -> float:
    """The positive part by the Gauss-Radau rule with a node at zero: never above the true one.

    The rule (Golub 1973) has n nodes and is exact for polynomials of degree 2n - 2. The polynomial
    of that degree that touches |x| at the n - 1 other nodes and meets it at zero, where |x| has its
    kink, lies nowhere above |x|: divided by x it interpolates the sign, and counting the zeros of
    its derivative leaves maxima alone where it is 1 and minima alone where it is -1. So the rule's
    v' |H| v is a lower bound, for the spectrum and for every Gauss rule of more steps, and what is
    missing falls steadily with n, while the error of the Gauss rule itself swings with where its
    nodes lie about zero. v' H+ v is half the sum of v' |H| v and v' H v, which is exact.

    Args:
        alphas: diagonal of T [n]; of the last the rule makes no use.
        betas: what is beside it [n - 1].

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


_FAR = 1e8  # a last node so many times beyond all others has no weight but in rounding
