"""Lanczos runs that end once their errors are small, and the positive part v' H+ v of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import eigh_tridiagonal

from lla.hessian.lanczos.process import Lanczos


@dataclass(frozen=True)
class Run:
    """One Lanczos run from one probe v of norm 1."""

    alphas: np.ndarray  # [n] float64, diagonal of T
    betas: np.ndarray  # [n], its off-diagonal, then the residual's norm (0 if exhausted)
    whole: bool  # whether it made all steps, or exhausted its Krylov space
    matvecs: int  # Hessian-vector products that were made

    @cached_property
    def ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ritz values [n], ascending, their weights and the norms of their residuals."""
        values, vectors = eigh_tridiagonal(self.alphas, self.betas[:-1])
        return values, vectors[0] ** 2, np.abs(self.betas[-1] * vectors[-1])

    @property
    def form(self) -> float:
        """The quadratic form v' H v."""
        return float(self.alphas[0])

    @cached_property
    def positive(self) -> float:
        """The positive part v' H+ v, by the Gauss rule of all steps."""
        return gauss_positive(self.alphas, self.betas[:-1])

    def lower(self, steps: int) -> float:
        """A lower bound of v' H+ v from the first steps, see `lower_positive`."""
        if steps > len(self.alphas) or self.betas[steps - 1] == 0:
            return self.positive
        return lower_positive(self.alphas[:steps], self.betas[: steps - 1])

    @cached_property
    def bound(self) -> float:
        """The lower bound from all steps."""
        return self.lower(len(self.alphas))

    def missing(self, steps: int) -> float:
        """How far the bound from the first steps is below the Gauss rule of all steps."""
        return max(0.0, self.positive - self.lower(steps))

    def missing_share(self, steps: int) -> float:
        """The same, relative to the negative part; 0 if there is none."""
        negative = self.positive - self.form
        return min(1.0, self.missing(steps) / negative) if negative > 0 else 0.0

    def re_error(self) -> float:
        """The error of r_e that the residuals of the outermost Ritz values allow.

        An eigenvalue lies within the residual of each Ritz value. None lies further out, unless the
        random start vector has no part along its eigenvector. The change of r_e from step to step
        is no measure of the error: it is also small while the process finds nothing new.
        """
        values, _, residuals = self.ritz
        if not values[-1] > 0:
            return np.inf
        ratio = max(0.0, -values[0]) / values[-1]
        beyond = max(0.0, residuals[0] - max(0.0, values[0]))  # of zero, or of the lowest
        return float((beyond + ratio * residuals[-1]) / values[-1])

    def re_within(self, tolerance: float) -> bool:
        """Whether the error of r_e, relative to r_e, is at most the tolerance."""
        if tolerance == np.inf:
            return True
        values = self.ritz[0]
        return self.re_error() <= tolerance * max(0.0, -values[0]) / values[-1]


def run_until(
    lanczos: Lanczos,
    least: int,
    most: int,
    steps: int,
    re_tolerance: float,
    on_step: Callable[[int], object],
) -> Run:
    """Advance a new process until its run is accurate enough.

    Args:
        lanczos: a process of one probe that has made no step.
        least: steps that are made at least.
        most: steps that are made at most.
        steps: of a whole run.
        re_tolerance: the error of r_e that is allowed, relative to it; inf if it does not matter.
        on_step: called with the number of products made since the last call.

    Raises:
        NonFiniteError: a product is not finite.
    """
    while True:
        amount = min(_BETWEEN_LOOKS, (least if lanczos.done < least else most) - lanczos.done)
        lanczos.advance(amount)
        on_step(amount)
        t = lanczos.tridiagonal()
        count, exhausted = int(t.counts[0]), bool(t.exhausted[0])
        whole = exhausted or lanczos.done == steps
        run = Run(t.alphas[0, :count], t.betas[0, :count], whole, lanczos.done)
        if whole or lanczos.done == most or (lanczos.done >= least and run.re_within(re_tolerance)):
            return run


_BETWEEN_LOOKS = 5  # steps between two diagonalisations of T, so that these cost little


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
