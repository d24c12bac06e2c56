"""The Lanczos process with full reorthogonalisation, for several start vectors side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lla.errors import InputError
from lla.hessian.refusals import not_finite
from lla.ranks import ALONE, Ranks


class RowOperator(Protocol):
    """A symmetric operator that can be applied to the rows of a matrix."""

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P)."""

    def rows(self, rows: Tensor) -> Tensor:
        """The operator applied to each row [K, P]."""


@dataclass(frozen=True)
class Tridiagonal:
    """The matrices T = V H V' of K Lanczos runs.

    A run that finds an invariant subspace has fewer steps; entries after its count mean nothing.
    """

    alphas: np.ndarray  # [K, steps] float64, diagonals
    betas: np.ndarray  # [K, steps], [:, j] couples j and j + 1; the last is the residual's norm
    counts: np.ndarray  # [K] int, number of valid steps
    exhausted: np.ndarray  # [K] bool, whether the count is the dimension of the whole Krylov space


class Basis:
    """The Lanczos vectors [K, steps, P] in one preallocated tensor, and products with them.

    Where several processes multiply together (`lla.ranks`), each stores P / ranks elements of every
    vector: its coefficients are summed over ranks, and the parts of a vector are put together.

    Args:
        runs: K.
        steps: vectors a run.
        like: a start vector; gives P, and the type and device of the arithmetic.
        dtype: type of the storage. float16 and bfloat16 halve it; vectors are scaled by sqrt(P)
            so that their elements are near 1. The orthogonality that is left is enough to prevent
            ghost copies (Simon 1984); in bfloat16 the outermost Ritz values change by about 1e-5,
            relative.
        device: of the storage; if it is another device, vectors are copied in slabs.
        ranks: that share the storage.
    """

    def __init__(
        self,
        runs: int,
        steps: int,
        like: Tensor,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self._like, self._ranks = like, ranks
        self._own = ranks.share(like.shape[-1])
        size = self._own.stop - self._own.start
        stored = like.dtype if dtype is None else dtype
        self._scale = 1.0 if stored.itemsize >= 4 else float(like.shape[-1]) ** 0.5
        with ranks.agreed():  # one may have no memory for it
            self._rows = torch.empty(
                (runs, steps, size), dtype=stored, device=like.device if device is None else device
            )
        # vectors of another type or device are converted in slabs of at most 64 MiB
        self._slab = max(1, 2**26 // max(1, runs * size * like.element_size()))
        self._direct = stored == like.dtype and self._rows.device == like.device

    def store(self, index: int, vectors: Tensor) -> None:
        """Write the vectors [K, P] of one step."""
        own = vectors[:, self._own]
        self._rows[:, index].copy_(own * self._scale if self._scale != 1 else own)

    def vectors(self, start: int, stop: int) -> Tensor:
        """The vectors of the steps start..stop [K, stop - start, P / ranks], for arithmetic."""
        rows = self._rows[:, start:stop]
        if self._direct:
            return rows
        return rows.to(device=self._like.device, dtype=self._like.dtype) / self._scale

    def slabs(self, count: int) -> list[tuple[int, int]]:
        """Ranges of steps below `count` that are converted at once."""
        if self._direct:
            return [(0, count)]
        return [(s, min(s + self._slab, count)) for s in range(0, count, self._slab)]

    def remove(self, vectors: Tensor, count: int) -> Tensor:
        """Subtract from vectors [K, P], in place, their components along the first `count` steps.

        Returns:
            The norms of the components [K].
        """
        removed = torch.zeros(len(vectors), dtype=vectors.dtype, device=vectors.device)
        split = self._ranks.count > 1
        own = vectors[:, self._own].clone() if split else vectors
        lines = own.unsqueeze(1)
        for start, stop in self.slabs(count):
            block = self.vectors(start, stop)
            parts = coefficients(block, lines)  # [K, 1, stop - start]
            if split:
                parts = self._ranks.summed(parts)
            lines.baddbmm_(parts, block, alpha=-1)
            removed += parts.square().sum((1, 2))
        if split:
            vectors.copy_(self._ranks.joined(own, vectors.shape[-1]))
        return removed.sqrt_()

    def combine(self, weights: Tensor, run: int = 0) -> Tensor:
        """Linear combinations [n, P] of one run's vectors, weights [n, steps]."""
        total = torch.zeros(
            len(weights), self._rows.shape[-1], dtype=self._like.dtype, device=self._like.device
        )
        for start, stop in self.slabs(weights.shape[1]):
            total += weights[:, start:stop] @ self.vectors(start, stop)[run]
        return self._ranks.joined(total, self._like.shape[-1])


class Lanczos:
    """A Lanczos process for K start vectors that can be continued.

    Each step is one product, the three-term recurrence, and one pass of Gram-Schmidt against all
    earlier vectors as two matrix products. A second pass is made only if the first removed a
    visible component, because the rounding error that is left is proportional to it. On a GPU the
    second pass is always made, so that nothing is read back to the host.

    Args:
        operator: symmetric, [P, P].
        start: [K, P], normalised or not.
        steps: maximal number of steps.
        basis_dtype: type in which the basis is stored, see `Basis`.
        basis_device: device on which the basis is stored.
        ranks: that multiply together, and share the basis.

    Raises:
        InputError: a zero start vector, or fewer steps than one.
    """

    def __init__(
        self,
        operator: RowOperator,
        start: Tensor,
        steps: int,
        basis_dtype: torch.dtype | None = None,
        basis_device: torch.device | str | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        if steps < 1:
            raise InputError(f"steps is {steps}: at least one Lanczos step is needed")
        lengths = norms(start)
        if not bool((lengths > 0).all()):
            raise InputError("a start vector is zero or NaN: draw another one")
        self.operator = operator
        self.done = 0
        self._restarted = 0
        self.basis = Basis(len(start), steps, start, basis_dtype, basis_device, ranks)
        self._alphas = torch.zeros(len(start), steps, dtype=start.dtype, device=start.device)
        self._betas = torch.zeros_like(self._alphas)
        self._next = start / lengths  # [K, P]
        self._previous = torch.zeros_like(start)
        self._beta = torch.zeros(len(start), 1, dtype=start.dtype, device=start.device)
        self._size = torch.zeros_like(self._beta)  # of T, as its largest row sum so far
        self._tolerance = _ROUNDING[start.dtype] * torch.finfo(start.dtype).eps

    def advance(self, steps: int) -> None:
        """Make further steps."""
        for j in range(self.done, self.done + steps):
            vector = self._next
            self.basis.store(j, vector)
            residual = self.operator.rows(vector)
            alpha = (residual * vector).sum(-1, keepdim=True)
            residual = residual.addcmul(alpha, vector, value=-1)
            residual.addcmul_(self._beta, self._previous, value=-1)
            size = torch.linalg.vector_norm(residual, dim=-1)
            removed = self.basis.remove(residual, j + 1)
            # rounding leaves a component of about eps |removed| in the residual
            if residual.is_cuda or bool((removed > _VISIBLE * size).any()):
                self.basis.remove(residual, j + 1)
            beta = norms(residual)
            self._size = torch.maximum(self._size, alpha.abs() + beta + self._beta)
            # after a breakdown only zeros follow, which `tridiagonal` leaves out: to continue with
            # rounding errors would amplify them to infinity. An overflow is not a breakdown
            ended = (beta <= self._tolerance * self._size) & beta.isfinite()
            beta = beta.masked_fill(ended, 0.0)
            self._alphas[:, j : j + 1] = alpha
            self._betas[:, j : j + 1] = beta
            self._next = (residual / beta).masked_fill_(ended, 0.0)
            self._previous, self._beta = vector, beta
        self.done += steps

    def restart(self, step: int, vector: Tensor) -> None:
        """Go back to `step` steps of a single run, and continue from a new vector [1, P].

        The vector is made orthogonal to the remaining steps and normalised; T has a zero there.
        """
        self.done = step
        for _ in range(2):
            vector = vector / norms(vector)
            self.basis.remove(vector, step)
        self._next = vector / norms(vector)
        self._betas[:, step - 1] = 0
        self._beta.zero_()
        self._restarted = step

    def ritz_vectors(self, weights: np.ndarray) -> Tensor:
        """Linear combinations [k, P] of a single run's vectors, weights [k, count]."""
        return self.basis.combine(torch.from_numpy(np.ascontiguousarray(weights)).to(self._next))

    def tridiagonal(self) -> Tridiagonal:
        """T of every run so far.

        Raises:
            NonFiniteError: a product was NaN or infinite.
        """
        alphas = self._alphas[:, : self.done].double().cpu().numpy()
        betas = self._betas[:, : self.done].double().cpu().numpy()
        finite = np.isfinite(alphas).all(0) & np.isfinite(betas).all(0)
        if not finite.all():
            raise not_finite(self._next.dtype, int(np.argmin(finite)))
        ended = betas[:, self._restarted :] == 0
        steps = [row.argmax() + 1 if row.any() else len(row) for row in ended]
        return Tridiagonal(alphas, betas, self._restarted + np.array(steps), ended.any(1))


def norms(rows: Tensor) -> Tensor:
    """Norms [K, 1] of the rows [K, P].

    `sum` adds in pairs. `vector_norm` adds one by one, whose float32 error for the 60,000 equal
    terms of a Rademacher vector is 4e-5.
    """
    return rows.square().sum(-1, keepdim=True).sqrt_()


_CHUNK = 8192


def coefficients(block: Tensor, lines: Tensor) -> Tensor:
    """Inner products [K, 1, n] of vectors [K, 1, P] with the rows of a block [K, n, P].

    A long product is inaccurate on the CPU, in float32 up to 3e-5 for 60,000 parameters. Sums over
    short chunks cost little and have a tenth of that error. The vectors are rows: as columns
    [K, P, 1] PyTorch is three times slower for several of them, and with two threads as inaccurate.
    """
    size = lines.shape[2] if lines.is_cuda else _CHUNK
    parts = block.new_zeros(len(block), 1, block.shape[1])
    for chunk, part in zip(block.split(size, dim=2), lines.split(size, dim=2), strict=True):
        parts.baddbmm_(part, chunk.transpose(1, 2))
    return parts


# if the first pass removes less than this share of the residual, a second pass is not needed
_VISIBLE = 0.1


# betas below so many eps, relative to the norm of T, are rounding errors. In float64 these reach
# 400 eps for 3000 parameters; in float32 the bound has to be low, since beside a large outlier a
# valid beta may be small
_ROUNDING = {torch.float64: 4096.0, torch.float32: 32.0}
