"""Lanczos runs that end as soon as they tell what is wanted of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal

from lla.hessian.lanczos import Lanczos
from lla.hessian.operator import HessianOperator
from lla.hessian.positive_part import gauss_positive, lower_positive
from lla.probes import rademacher


@dataclass(frozen=True)
class Run:
    """One Lanczos run from one probe v of norm 1."""

    alphas: np.ndarray  # [n] float64, diagonal of T
    betas: np.ndarray  # [n], what is beside it; the last is the residual's norm, 0 if exhausted
    whole: bool  # whether it has all steps that were allowed, or its whole Krylov space
    matvecs: int  # Hessian-vector products that it cost

    @cached_property
    def ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ritz values [n], ascending, their weights and the norms of their residuals."""
        values, vectors = eigh_tridiagonal(self.alphas, self.betas[:-1])
        return values, vectors[0] ** 2, np.abs(self.betas[-1] * vectors[-1])

    @property
    def form(self) -> float:
        """The form v' H v."""
        return float(self.alphas[0])

    @cached_property
    def positive(self) -> float:
        """The part v' H+ v by the Gauss rule of all its steps."""
        return gauss_positive(self.alphas, self.betas[:-1])

    def lower(self, steps: int) -> float:
        """A lower bound of v' H+ v from at most so many of its steps, see `lower_positive`."""
        if steps > len(self.alphas) or self.betas[steps - 1] == 0:
            return self.positive
        return lower_positive(self.alphas[:steps], self.betas[: steps - 1])

    @cached_property
    def bound(self) -> float:
        """The lower bound from all its steps."""
        return self.lower(len(self.alphas))

    def missing(self, steps: int) -> float:
        """What that bound lacks of v' H+ v by the Gauss rule of all steps."""
        return max(0.0, self.positive - self.lower(steps))

    def re_error(self) -> float:
        """By how much the residuals of the outermost Ritz values let r_e be wrong.

        An eigenvalue lies within the residual of each. That none lies beyond is as sure as that a
        random start vector has a part along the eigenvector; so the change of r_e from step to step
        is not looked at, which is also small while the process finds nothing new.
        """
        values, _, residuals = self.ritz
        if not values[-1] > 0:
            return np.inf
        ratio = max(0.0, -values[0]) / values[-1]
        beyond = max(0.0, residuals[0] - max(0.0, values[0]))  # of zero, or of the lowest
        return float((beyond + ratio * residuals[-1]) / values[-1])

    def re_within(self, tolerance: float) -> bool:
        """Whether that is at most so much, relative to r_e."""
        if tolerance == np.inf:
            return True
        values = self.ritz[0]
        return self.re_error() <= tolerance * max(0.0, -values[0]) / values[-1]


def lanczos_run(
    operator: HessianOperator,
    seeds: tuple[int, ...],
    steps: int,
    least: int,
    most: int,
    re_tolerance: float,
    on_step: Callable[[int], object],
    basis_dtype: torch.dtype | None = None,
    basis_device: torch.device | str | None = None,
) -> tuple[Run, Lanczos]:
    """Run from a Rademacher probe until it tells enough.

    Args:
        operator: the Hessian.
        seeds: of the probe, see `lla.probes.rademacher`.
        steps: of a whole run.
        least: steps that are made at least.
        most: steps that are made at most.
        re_tolerance: r_e has to be within so much, relative to it; inf: it does not matter.
        on_step: called with the number of products made since the last call.
        basis_dtype: see `lla.hessian.lanczos.Basis`.
        basis_device: see there.

    Returns:
        The run, and the process with its basis.

    Raises:
        NonFiniteError: a product is not finite.
    """
    start = rademacher(operator.shape[0], operator.theta, *seeds)[None]
    lanczos = Lanczos(operator, start, most, basis_dtype, basis_device)
    while True:
        goal = least if lanczos.done < least else most
        amount = min(_AT_ONCE, goal - lanczos.done)
        lanczos.advance(amount)
        on_step(amount)
        t = lanczos.tridiagonal()
        count, exhausted = int(t.counts[0]), bool(t.exhausted[0])
        whole = exhausted or lanczos.done == steps
        run = Run(t.alphas[0, :count], t.betas[0, :count], whole, lanczos.done)
        if whole or lanczos.done == most or (lanczos.done >= least and run.re_within(re_tolerance)):
            return run, lanczos


_AT_ONCE = 5  # steps between two looks at T: its diagonalisation stays a small part
