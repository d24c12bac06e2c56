"""Numbers other than the loss that a plane can have: functions of a problem at a point."""

from __future__ import annotations

import torch

from lla.errors import InputError, NonFiniteError
from lla.hessian.eigenpairs import Which, top_eigenpairs
from lla.hessian.operator import HessianOperator
from lla.problem import Problem


def accuracy(problem: Problem) -> float:
    """The share of right answers over all batches, in the problem's mode; NaN counts as wrong.

    Raises:
        InputError: the targets are not class indices.
    """
    if problem.classes is None:
        raise InputError("accuracy needs class indices as targets: give another scalar")
    right = torch.zeros((), dtype=torch.int64, device=problem.device)
    count = 0
    for output, y in problem.outputs():
        right += ((output.argmax(1) == y) & ~output.isnan().any(1)).sum()
        count += y.numel()
    return right.item() / count


def top_eigenvalue(problem: Problem) -> float:
    """The largest eigenvalue of the Hessian, to 1 %, or to 1e-4 of the largest in magnitude."""
    return _extreme(HessianOperator(problem, route="fresh"), "LA")


def negative_ratio(problem: Problem) -> float:
    """The criterion r_e = max(0, -lambda_min) / lambda_max of the pooled Hessian.

    It is computed from the extreme eigenvalues, to which those of spectral densities converge. Each
    is as exact as `top_eigenvalue`.

    Raises:
        NonFiniteError: no eigenvalue is positive, so there is no ratio; a plane then has NaN.
    """
    operator = HessianOperator(problem, route="fresh")
    top, bottom = _extreme(operator, "LA"), _extreme(operator, "SA")
    if top <= 0:
        raise NonFiniteError(f"the largest eigenvalue is {top:.3g}, and r_e needs a positive one")
    return max(0.0, -bottom) / top


def _extreme(operator: HessianOperator, which: Which) -> float:
    """One extreme eigenvalue, with a tolerance that is small relative to it."""
    for tol in (1e-2, 1e-3, 1e-4):
        pairs = top_eigenpairs(operator, 1, which, tol=tol)
        if pairs.residuals[0] <= 1e-2 * abs(pairs.values[0]):
            break
    return float(pairs.values[0])
