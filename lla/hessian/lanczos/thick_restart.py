"""Extreme Ritz pairs in bounded memory: Lanczos with thick restart (Wu and Simon, 2000)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lla.hessian.lanczos.process import coefficients, norms
from lla.hessian.refusals import not_finite
from lla.hessian.symmetric import SymmetricOperator


def thick_restart(
    operator: SymmetricOperator,
    start: Tensor,
    k: int,
    order: Callable[[np.ndarray], np.ndarray],
    size: int,
    tol: float,
    max_steps: int,
    fresh: Callable[[int], Tensor],
    advanced: Callable[[int], object],
) -> tuple[Tensor, float, int, bool]:
    """The k most wanted Ritz pairs from at most `size` basis vectors at a time.

    When the basis is full, the better half of its Ritz vectors stays and the process continues from
    the last residual. Every vector is made orthogonal to all others, twice; the coefficients of the
    first pass are the columns of the projected matrix. When the Krylov space is exhausted, the
    process continues from a new vector, to find further copies of multiple eigenvalues, until one
    more such vector changes nothing.

    Args:
        operator: symmetric, [P, P].
        start: [P].
        k: how many.
        order: Ritz values [n] -> indices, the most wanted first.
        size: number of basis vectors, at least k + 2; during a restart, half as many more.
        tol: stop when the residuals are below tol times the largest |Ritz value|.
        max_steps: most products.
        fresh: number of products made -> a vector [P] to continue from.
        advanced: called with the number of products made since the last call.

    Returns:
        Ritz vectors [k, P], the largest |Ritz value|, the number of products, and whether the pairs
        have converged.

    Raises:
        NonFiniteError: a product is not finite.
    """
    basis = torch.empty(size, len(start), dtype=start.dtype, device=start.device)
    projected = np.zeros((size, size))
    following = start / norms(start[None])[0]
    filled, steps = 0, 0
    exact: np.ndarray | None = None  # the values when the Krylov space was last exhausted
    while True:
        beta, begin, exhausted = 0.0, steps, False
        while filled < size and steps < max_steps:
            basis[filled] = following
            vector = operator.rows(following[None])[0]
            filled, steps = filled + 1, steps + 1
            column = _remove(basis[:filled], vector)
            _remove(basis[:filled], vector)
            projected[:filled, filled - 1] = projected[filled - 1, :filled] = column
            beta = norms(vector[None])[0].item()
            if not np.isfinite(beta) or not np.isfinite(column).all():
                raise not_finite(start.dtype, steps)
            if beta <= _ROUNDING * torch.finfo(start.dtype).eps * np.abs(column).max():
                beta, exhausted = 0.0, True
                break
            following = vector / beta
        advanced(steps - begin)
        values, vectors = np.linalg.eigh(projected[:filled, :filled])
        ranked = order(values)
        scale = float(np.abs(values).max())
        residuals = beta * np.abs(vectors[-1, ranked[:k]])
        wanted = values[ranked[:k]]
        if filled == len(start):
            converged = True
        elif exhausted:
            same = exact is not None and bool((np.abs(wanted - exact) <= tol * scale).all())
            converged, exact = same, wanted if filled >= k else None
        else:
            converged = exact is None and filled >= k and bool((residuals <= tol * scale).all())
        converged = operator.decided(converged)
        if converged or steps >= max_steps:
            return _combine(basis[:filled], vectors[:, ranked[:k]]), scale, steps, converged
        if filled == size:
            kept = ranked[: max(k + 1, size // 2)]
            basis[: len(kept)] = _combine(basis[:filled], vectors[:, kept])
            filled = len(kept)
            projected[:] = 0
            projected[range(filled), range(filled)] = values[kept]
        if exhausted:
            following = fresh(steps)
            for _ in range(2):
                following = following / norms(following[None])[0]
                _remove(basis[:filled], following)
            following = following / norms(following[None])[0]


def _remove(basis: Tensor, vector: Tensor) -> np.ndarray:
    """Subtract from a vector, in place, its components along the rows of a basis; return them."""
    parts = coefficients(basis[None], vector[None, None])[0, 0]  # [n]
    vector.sub_(parts @ basis)
    return parts.double().cpu().numpy()


def _combine(basis: Tensor, weights: np.ndarray) -> Tensor:
    """Linear combinations [n, P] of the rows of a basis, weights [rows, n]."""
    return torch.from_numpy(np.ascontiguousarray(weights.T)).to(basis) @ basis


_ROUNDING = 32.0  # eps, relative to the column of the projected matrix
