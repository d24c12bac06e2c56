"""How much of a Hessian-vector product in float32 is rounding."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from lla.batches import leaves
from lla.errors import InputError, out_of_memory
from lla.estimate import Estimate
from lla.hessian.operator import route_arguments
from lla.hessian.products.routes import Fresh
from lla.parameters import Pattern
from lla.probes import rademacher
from lla.problem import Problem

EXAMPLES = 64  # of the first batch, from which the rounding is measured
_SAME = 1e-3  # relative difference of outputs that rounding may cause
_SMALL = 0.1  # share of a criterion up to which rounding is small
_HARMLESS = 1e-4  # rounding below this is never said: a convex problem has r_e of about 1e-7


def product_rounding(
    problem: Problem,
    parameters: Pattern | Sequence[Pattern] | None = None,
    examples: int = EXAMPLES,
) -> float | None:
    """The share of a product in float32 that is rounding, by comparison with one in float64.

    ||H v - H_64 v|| / ||H_64 v|| for one random vector, where H_64 is the Hessian computed in
    float64, of a few examples. A trained network has a small loss and small
    derivatives, which are differences of numbers that are not small.

    Args:
        problem: model, batches, loss and mode.
        parameters: see `lla.HessianOperator`.
        examples: at most so many, of the first batch; in float64 one takes the memory of two.

    Returns:
        The share; None if the problem is in float64, if the product is zero or not finite, or if
        float64 is not possible: the model or the loss has a type of its own, or draws other random
        numbers in float64, or memory is short.
    """
    if problem.dtype == torch.float64:
        return None
    part = problem.part(examples)
    try:
        exact = part.in_precision("float64")
    except InputError:
        return None
    if not _same_outputs(part, exact):
        return None
    try:
        found, expected = _product(part, parameters), _product(exact, parameters)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return None  # the criteria have been measured, and are not lost
    scale = torch.linalg.vector_norm(expected)
    if not (scale > 0 and scale.isfinite()):
        return None
    return (torch.linalg.vector_norm(found.double() - expected) / scale).item()


def is_small(rounding: float, estimate: Estimate) -> bool:
    """Whether rounding is small against a criterion, or so small that it never matters.

    Args:
        rounding: see `product_rounding`.
        estimate: of a criterion, which is a ratio; NaN was not measured and is never doubtful.
    """
    return rounding <= _HARMLESS or not rounding > _SMALL * abs(estimate.value)


def warn_of_rounding(rounding: float | None, estimates: dict[str, Estimate]) -> None:
    """Warn if rounding is not small compared with one of some criteria, which are ratios.

    Args:
        rounding: see `product_rounding`.
        estimates: of criteria, by the name to be printed.

    Warns:
        UserWarning: at most once.
    """
    if rounding is None:
        return
    doubtful = [
        f"{name} is {estimate}"
        for name, estimate in estimates.items()
        if not is_small(rounding, estimate)
    ]
    if doubtful:
        warnings.warn(
            f"rounding makes {rounding:.1%} of a product in float32, which is not small against "
            f"the criteria ({', '.join(doubtful)}): compute with precision='float64'",
            stacklevel=3,
        )


def _product(problem: Problem, parameters: Pattern | Sequence[Pattern] | None) -> Tensor:
    (batch,) = problem.batches
    space = problem.space.select(parameters)
    product = Fresh(*route_arguments(problem, batch, space, problem.state()))
    return product(rademacher(space.size, problem.theta(), 0)[None])[0]


def _same_outputs(one: Problem, other: Problem) -> bool:
    """Whether the outputs of two problems differ by rounding only; losses may be all rounding."""
    pairs = zip(one.outputs(), other.outputs(), strict=True)
    for (a, _), (b, _) in pairs:
        for x, y in zip(leaves(a), leaves(b), strict=True):
            norm = torch.linalg.vector_norm
            if x.is_floating_point() and not norm(x.double() - y) <= _SAME * norm(y):
                return False
    return True
