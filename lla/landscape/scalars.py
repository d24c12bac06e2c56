"""Numbers other than the loss that can be put on a plane: functions of a problem at a point."""

from __future__ import annotations

import torch

from lla.errors import InputError, NonFiniteError
from lla.hessian.eigenpairs import top_eigenpairs
from lla.hessian.operator import HessianOperator
from lla.problem import Problem


def accuracy(problem: Problem) -> float:
    """The share of right answers over all batches, in the problem's mode; NaN is no answer.

    Raises:
        InputError: the targets are no class indices.
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
    """The largest eigenvalue of the Hessian, to 1 %."""
    operator = HessianOperator(problem, route="fresh")
    return float(top_eigenpairs(operator, 1, "LA", tol=1e-2).values[0])


def negative_ratio(problem: Problem) -> float:
    """The criterion r_e = max(0, -lambda_min) / lambda_max of the pooled Hessian, to 2 %.

    From the extreme eigenvalues themselves, to which those of spectral densities converge.

    Raises:
        NonFiniteError: no eigenvalue is positive, so that there is no ratio; NaN on a plane.
    """
    operator = HessianOperator(problem, route="fresh")
    top, bottom = (
        float(top_eigenpairs(operator, 1, which, tol=1e-2).values[0]) for which in ("LA", "SA")
    )
    if top <= 0:
        raise NonFiniteError(f"the largest eigenvalue is {top:.3g}, and r_e needs a positive one")
    return max(0.0, -bottom) / top
