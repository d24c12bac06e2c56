"""The regularizers that have a name, and what a user may give in place of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lla.arguments import positive_number, seed_number, whole_number
from lla.batches import Batch
from lla.errors import InputError, unknown_name
from lla.layers.calls import called
from lla.layers.chosen import chosen, weight_name
from lla.layers.closed_form import classifier_of
from lla.layers.conditions import why_no_cross_entropy
from lla.level_sets.regularizer import Function, Regularizer, Terms
from lla.loss_call import logits as logits_of
from lla.probes import rademacher
from lla.problem import Problem

BETA = 0.01  # where the smooth L1 norm goes from a square to a straight line
PROBES = 8  # of regularizers that are sampled
_TRACE, _KAPPA = 41, 42  # streams of random signs
_TOGETHER = 16  # logits whose graphs are in memory at once


def l2() -> Regularizer:
    """||theta||^2 over all trainable parameters."""
    return Regularizer.of(lambda problem, theta: theta.square().sum(), "l2")


def smooth_l1(beta: float = BETA) -> Regularizer:
    """The sum of |theta_i| - beta / 2, of theta_i^2 / (2 beta) where |theta_i| < beta.

    Args:
        beta: where the square ends.
    """
    beta = positive_number("beta", beta)

    def value(problem: Problem, theta: Tensor) -> Tensor:
        return F.smooth_l1_loss(theta, torch.zeros_like(theta), reduction="sum", beta=beta)

    return Regularizer.of(value, "smooth_l1")


def jacobian() -> Regularizer:
    """mean_n ||dz_n / dx_n||_F^2: the sensitivity of the logits z [N, C] to the inputs x."""

    def parts(problem: Problem, theta: Tensor) -> Terms:
        for batch in problem.batches:
            x = _floating(batch)
            given = Batch(x, batch.y, batch.size)
            with called(problem, given, (), theta=theta) as (output, _):
                logits = _logits(problem, output, "jacobian")
                for some in logits.T.split(_TOGETHER):
                    squares = [_slope(z.sum(), x).square().sum() for z in some]
                    yield torch.stack(squares).sum() / problem.examples

    return Regularizer("jacobian", parts)


def kappa(layer: str | None = None, probes: int = PROBES, seed: int = 0) -> Regularizer:
    """Relative flatness kappa of a layer, as `lla.flatness` defines it.

    Of the linear layer that gives the logits it is mean_n ||x_n||^2 sum_c p_nc ||w_c - w_n||^2,
    with the layer's input x, the predicted probabilities p and w_n = sum_c p_nc w_c; exact for any
    network with a mean cross-entropy. Of another layer it is sampled: the mean of v' H v over
    v = W U with matrices U of random signs, the same ones at each call.

    Args:
        layer: its name; None takes the one that gives the logits.
        probes: matrices U.
        seed: of these.
    """
    probes, seed = whole_number("probes", probes, 1), seed_number(seed)

    def exact(problem: Problem, theta: Tensor) -> Terms:
        linear = [n for n, m in problem.model.named_modules() if isinstance(m, nn.Linear)]
        for batch in problem.batches:
            with called(problem, batch, linear, theta=theta) as (output, calls):
                logits = _logits(problem, output, "kappa")
                why = why_no_cross_entropy(problem, batch, output)
                top = classifier_of(calls, logits)
                if why is not None or top is None:
                    raise InputError(
                        "kappa of the last layer needs a linear layer that gives the logits, and "
                        f"a mean cross-entropy; {why or 'no layer gives them'}: name a layer, "
                        "lla.level_sets.kappa('layer')"
                    )
                x, W = calls[top].x, calls[top].weight
                assert x is not None
                p = logits.softmax(1)
                away = W[None] - (p @ W)[:, None]  # [n, C, d]
                spread = (p * away.square().sum(2)).sum(1)
                yield (x.square().sum(1) * spread).sum() / problem.examples

    def sampled(problem: Problem, theta: Tensor) -> Terms:
        (name,) = chosen(problem, layer)
        place, shape = _place(problem, weight_name(problem, name))
        size = shape[1:].numel()
        for i in range(probes):
            U = rademacher(size * size, theta, seed, _KAPPA, i).reshape(size, size)
            v = theta[place].reshape(shape[0], size) @ U
            yield from _curved(problem, theta, F.pad(v.flatten(), _around(place, theta)), probes)

    if layer is None:
        return Regularizer("kappa", exact)
    return Regularizer(f"kappa {layer}", sampled, sampled=True)


def trace(probes: int = PROBES, seed: int = 0) -> Regularizer:
    """The trace of the Hessian, sampled: the mean of v' H v over vectors v of random signs.

    The vectors are the same ones at each call, so that R is a function. A walk that lowers it
    lowers the curvature along these vectors first: look at the trace along others (`measured`).

    Args:
        probes: vectors.
        seed: of these.
    """
    probes, seed = whole_number("probes", probes, 1), seed_number(seed)

    def parts(problem: Problem, theta: Tensor) -> Terms:
        for i in range(probes):
            v = rademacher(len(theta), theta, seed, _TRACE, i)
            yield from _curved(problem, theta, v, probes)

    return Regularizer("trace", parts, sampled=True)


_NAMED: dict[str, Callable[..., Regularizer]] = {
    "l2": l2, "smooth_l1": smooth_l1, "jacobian": jacobian, "kappa": kappa, "trace": trace,
}  # fmt: skip
NAMES = tuple(_NAMED)
_OTHER = 1  # seed of what is measured beside the walk


def named(given: str | Regularizer | Function, measured: bool = False) -> Regularizer:
    """A regularizer by its name, or from a function.

    Args:
        given: one of `NAMES`, a regularizer, or a function (problem, theta) -> R.
        measured: take other random vectors than the regularizer of a walk.

    Raises:
        InputError: an unknown name, or something else.

    >>> named("l2").name
    'l2'
    """
    if isinstance(given, Regularizer):
        return given
    if isinstance(given, str):
        if given not in _NAMED:
            raise unknown_name("regularizer", given, NAMES)
        return trace(seed=_OTHER) if measured and given == "trace" else _NAMED[given]()
    if not callable(given):
        raise InputError(
            f"the regularizer is {type(given).__name__}: give a name ({', '.join(NAMES)}) or a "
            "function of (problem, theta)"
        )
    return Regularizer.of(given)


def _curved(problem: Problem, theta: Tensor, v: Tensor, count: int) -> Terms:
    """The product v' H v / count in the graph of theta [P] and of v [P], batch by batch."""
    state = problem.state()
    for batch, share in zip(problem.batches, problem.coefficients, strict=True):
        loss = problem.batch_loss(batch, state=state)(theta)
        with problem.held(theta, problem.space, state):
            (slope,) = torch.autograd.grad(loss, theta, create_graph=True)
            (product,) = torch.autograd.grad(
                slope, theta, v, create_graph=True, materialize_grads=True
            )
            yield share / count * (product @ v)


def _place(problem: Problem, name: str) -> tuple[slice, torch.Size]:
    """Where a parameter lies in theta, and its shape."""
    (found,) = (each for each in problem.space if each[0] == name)
    return found[2], torch.Size(found[1])


def _around(place: slice, theta: Tensor) -> tuple[int, int]:
    """How many elements of theta come before a slice and after it."""
    return place.start, len(theta) - place.stop


def _slope(z: Tensor, x: Tensor) -> Tensor:
    """The gradient of a number by the inputs, in the graph of theta."""
    (found,) = torch.autograd.grad(z, x, create_graph=True, materialize_grads=True)
    return found


def _floating(batch: Batch) -> Tensor:
    """The input of a batch as a leaf."""
    if not isinstance(batch.x, Tensor) or not batch.x.is_floating_point():
        kind = batch.x.dtype if isinstance(batch.x, Tensor) else type(batch.x).__name__
        raise InputError(
            "the regularizer jacobian needs inputs that are one tensor of floating-point numbers, "
            f"not {kind}: take another regularizer"
        )
    return batch.x.detach().clone().requires_grad_()


def _logits(problem: Problem, output: Any, name: str) -> Tensor:
    """The logits [n, C] of an output."""
    found = None if problem.findings.call.takes_model else logits_of(output)
    if not isinstance(found, Tensor) or found.ndim != 2:
        kind = list(found.shape) if isinstance(found, Tensor) else type(output).__name__
        raise InputError(
            f"the regularizer {name} needs a network that gives logits [n, C], and a loss of "
            f"these, not {kind}: take another regularizer"
        )
    return found
