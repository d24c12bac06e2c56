"""Whether double backward gives the derivative of a gradient, for any scalar function."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lla.probes import gaussian

Function = Callable[[Tensor], Tensor]  # [P] -> scalar

# by the type of the computation: lengths of the step of the central difference, relative to the
# point; and, relative to ||H v||, the largest error of H v and the largest |u'Hv - v'Hu| that
# rounding may cause
_STEPS = {torch.float64: (1e-9, 1e-8, 1e-7, 1e-6), torch.float32: (1e-2, 1e-3, 1e-4)}
_ERRORS = {torch.float64: 1e-3, torch.float32: 0.3}
_ASYMMETRY = {torch.float64: 1e-6, torch.float32: 1e-2}
_FLOOR = 100  # eps of the gradient, which its difference cannot resolve
_CONVERGED = 0.1  # relative change of a difference from one step to another
_AGREED = 0.25  # the same, relative to what the difference says against H v


class Disagreement(NamedTuple):
    """What is wrong with double backward at a point."""

    said: str | None  # None if nothing is
    size: float  # the larger ||H v|| of two random vectors v of normal numbers
    symmetric: bool = True  # whether u'Hv is v'Hu


def disagreement(
    function: Function,
    point: Tensor,
    precision: torch.dtype,
    constant: Tensor | None = None,
    held: Callable[[Tensor], AbstractContextManager[Any]] = nullcontext,
) -> Disagreement:
    """What is wrong with double backward through a function.

    Args:
        function: differentiable, of a vector.
        point: where [P], generic: at a kink the derivative is a convention.
        precision: the type in which the function computes.
        constant: mask [P] of elements that the gradient takes as constants.
        held: the context of backward passes at a point.

    Returns:
        What is wrong. Nothing is, if H v agrees with a difference of gradients, if no differences
        have converged, or if H v is not finite.

    Raises:
        RuntimeError: an operation has no second derivative.
    """
    v, u = (gaussian(len(point), point, 0, i) for i in (1, 2))
    if constant is not None:
        v[constant], u[constant] = 0, 0
    theta = point.detach().clone().requires_grad_()
    gradient = _gradient(function, theta, held, create_graph=True)
    with held(theta.detach()):
        images = [_derivative(gradient, theta, w) for w in (v, u)]
    del gradient  # with its graph
    size = max(map(torch.linalg.vector_norm, images)).item()
    if not math.isfinite(size):
        return Disagreement(None, size)  # said where products are used
    left, right = torch.dot(u, images[0]).item(), torch.dot(v, images[1]).item()
    if abs(left - right) > _ASYMMETRY[precision] * size:
        said = f"is not symmetric (u'Hv is {left:.4g}, v'Hu {right:.4g})"
        return Disagreement(said, size, symmetric=False)
    length = torch.linalg.vector_norm(point).item() or math.sqrt(len(point))
    found: list[tuple[Tensor, float, float]] = []  # differences, errors and scales
    for relative in _STEPS[precision]:
        step = relative * length / torch.linalg.vector_norm(v).item()
        ends = [_gradient(function, (point + s * v).requires_grad_(), held) for s in (step, -step)]
        difference = (ends[0] - ends[1]) / (2 * step)
        reach = max(map(torch.linalg.vector_norm, ends)).item()
        floor = _FLOOR * torch.finfo(precision).eps * reach / step
        error = torch.linalg.vector_norm(difference - images[0]).item()
        scale = max(map(torch.linalg.vector_norm, (difference, images[0]))).item()
        if error <= _ERRORS[precision] * scale:
            return Disagreement(None, size)
        if not scale <= floor / _CONVERGED:
            found.append((difference, error, scale))
    for (one, error, scale), (other, *_) in pairwise(found):
        # With a kink in between, or where rounding is coarse next to a gradient close to 0, the
        # difference has not converged, and says nothing.
        change = torch.linalg.vector_norm(one - other).item()
        if change <= min(_CONVERGED * scale, _AGREED * error):
            said = f"differs by {100 * error / scale:.2g} % from the difference of gradients"
            return Disagreement(said, size)
    return Disagreement(None, size)


def _gradient(
    function: Function,
    theta: Tensor,
    held: Callable[[Tensor], AbstractContextManager[Any]],
    create_graph: bool = False,
) -> Tensor:
    value = function(theta)
    if not value.requires_grad:
        return torch.zeros_like(theta)
    with held(theta.detach()):
        (gradient,) = torch.autograd.grad(
            value, theta, create_graph=create_graph, materialize_grads=True
        )
    return gradient


def _derivative(gradient: Tensor, theta: Tensor, along: Tensor) -> Tensor:
    if not gradient.requires_grad:
        return torch.zeros_like(theta)
    return torch.autograd.grad(gradient, theta, along, retain_graph=True, materialize_grads=True)[0]
