"""The Lanczos process of the paper's public code, imitated so that its numbers can be checked.

It differs from `lla.hessian.lanczos.process` in three ways, none of them an improvement. New
vectors are made orthogonal to the last eleven only, so an outlying eigenvalue comes back as ghost
copies (Paige 1972). Vectors are divided by their norm plus 1e-6, which is not invariant to the
scale of the loss. And everything, T included, is computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lla.hessian.lanczos.process import RowOperator, Tridiagonal
from lla.hessian.refusals import not_finite
from lla.probes import rademacher

WINDOW = 11  # vectors that a new one is made orthogonal to
OFFSET = 1e-6  # added to every norm


def legacy_tridiagonal(
    operator: RowOperator, start: Tensor, steps: int, seed: int, on_step: Callable[[], object]
) -> Tridiagonal:
    """T of one run from a start vector [P].

    Args:
        operator: the Hessian.
        start: the probe [P].
        steps: Lanczos steps.
        seed: of the vectors that replace a vector of norm zero.
        on_step: called after every step.
    """
    vector = _normalised(start)
    window = [vector]
    previous = torch.zeros_like(vector)
    residual = torch.zeros_like(vector)
    alphas = torch.zeros(steps, dtype=start.dtype, device=start.device)
    betas = torch.zeros_like(alphas)
    for j in range(steps):
        if j:
            beta = torch.linalg.vector_norm(residual)
            betas[j - 1] = beta
            exhausted = not bool(beta > 0)
            fresh = rademacher(len(start), start, seed, steps, j) if exhausted else residual
            previous, vector = vector, _orthogonal(fresh, window)
            window = [*window, vector][-WINDOW:]
        product = operator.rows(vector[None])[0]
        alpha = product @ vector
        alphas[j] = alpha
        residual = product - alpha * vector
        if j:
            residual = residual - betas[j - 1] * previous
        on_step()
    diagonal, off = (x.double().cpu().numpy()[None] for x in (alphas, betas))
    if not (np.isfinite(diagonal).all() and np.isfinite(off).all()):
        raise not_finite(vector.dtype)
    return Tridiagonal(diagonal, off, np.array([steps]), np.array([False]))


def _normalised(vector: Tensor) -> Tensor:
    return vector / (torch.linalg.vector_norm(vector) + OFFSET)


def _orthogonal(vector: Tensor, window: list[Tensor]) -> Tensor:
    """Modified Gram-Schmidt against the vectors of the window."""
    for other in window:
        vector = vector - (vector @ other) * other
    return _normalised(vector)
