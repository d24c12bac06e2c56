"""Whether formulas for the Hessian of a layer are exact: numerical probes, on the whole batch.

The formulas of `lla.layers.closed_form` and `lla.layers.jacobian_blocks` need a mean cross-entropy
over logits z [n, C], examples that do not affect each other, and logits that are affine in the
weights of the layer around their values. The probes look at derivatives, not at the kinds of
modules: so functional ReLUs and modules of the user's own are covered.

The Hessian of a layer is G + R, with G = mean_n J' (diag(p) - p p') J, which the formulas give, and
R = mean_n sum_c (dL/dz)_c d2z_c, which they leave out. R is probed with random weights in place of
dL/dz, and is compared along a random direction with J'J, and with G for a dL/dz of the size that
it has. Of sure and wrong predictions G is nearly zero, so the first alone would not do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lla.batches import Batch
from lla.layers.calls import LayerCall
from lla.layers.patches import applied, is_covered
from lla.loss_call import logits as logits_of
from lla.loss_call import own_loss
from lla.precision import ROUNDING
from lla.probes import gaussian
from lla.problem import Problem

# what may be left out, relative to what is not; of networks that are affine in pieces it is 0
_LEFT_OUT = {torch.float32: 1e-5, torch.float64: 1e-10}


def why_no_cross_entropy(problem: Problem, batch: Batch, output: Any) -> str | None:
    """Why the Hessian of a batch's loss by the logits is not that of a mean cross-entropy.

    That is (diag(p) - p p') / n for each example, whatever the labels; label smoothing changes
    nothing. Compared along a random direction, at the logits, and at random ones: of sure
    predictions the Hessian of any loss may be nearly zero.

    Args:
        problem: with the loss.
        batch: with the targets.
        output: of the network, with all that it has beside logits.

    Returns:
        The reason in words, None if it is.
    """
    call = problem.findings.call
    if problem.findings.by_parameters:
        return "the model differentiates itself by its parameters"
    if call.whole_output:
        return "the loss is a function of the whole output, not of its logits"
    if call.loss is None and own_loss(output) is not None:
        return "the model computes its own loss (if that is a cross-entropy, pass it as loss=)"
    logits = logits_of(output)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < 2:
        shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        return f"the output is {shape}, not logits [n, C]"
    if not logits.requires_grad:
        return "the logits do not depend on the weights"
    away = gaussian(logits.numel(), logits, 5).reshape(logits.shape)
    same = _is_cross_entropy(problem, batch, logits.detach())
    if not (same and _is_cross_entropy(problem, batch, away)):
        return "the loss is no mean cross-entropy of the logits"
    return None


def _is_cross_entropy(problem: Problem, batch: Batch, at: Tensor) -> bool:
    """Whether the Hessian of a loss by logits is the cross-entropy's at some point."""
    z = at.clone().requires_grad_()
    r = gaussian(z.numel(), z, 0).reshape(z.shape)
    value = problem.objective.of_output(z, batch)
    (first,) = torch.autograd.grad(value, z, create_graph=True, materialize_grads=True)
    if not first.requires_grad:
        return False
    (found,) = torch.autograd.grad(first, z, r, materialize_grads=True)
    p = at.double().softmax(1)
    expected = p * (r - (p * r).sum(1, keepdim=True)) / len(z)
    scale = (p * r.abs()).norm() / len(z)  # a sure prediction leaves only rounding of the rest
    return bool((found - expected).norm() <= ROUNDING[z.dtype] * scale)


def slopes(problem: Problem, batch: Batch, logits: Tensor) -> Tensor:
    """The gradient of each example's own loss by its logits [n, C]."""
    z = logits.detach().requires_grad_()
    value = problem.objective.of_output(z, batch)
    return torch.autograd.grad(value, z)[0] * len(z)


def why_not_exact(
    calls: Mapping[str, LayerCall], logits: Tensor, slopes: Tensor | None
) -> dict[str, str]:
    """Why the formulas are not exact for layers and a batch.

    Args:
        calls: of the layers, in the graph of the logits.
        logits: [n, C].
        slopes: see the function of this name. None allows logits that are not piecewise linear in
            the weights: the formulas then give G, whatever R is.

    Returns:
        The reasons in words, for the layers that they are not exact for.
    """
    found = {name: why for name, call in calls.items() if (why := _why_unfit(call, len(logits)))}
    fit = {name: call for name, call in calls.items() if name not in found}
    if not fit:
        return found
    a = gaussian(logits.numel(), logits, 1).reshape(logits.shape).requires_grad_()
    by_example = gaussian(len(logits), logits, 4)
    outputs = [call.output for call in fit.values() if call.output is not None]
    weights = [parameter for call in fit.values() for parameter in call.parameters]
    gradients = torch.autograd.grad(
        logits, [*outputs, *weights], a, create_graph=True, materialize_grads=True
    )
    deltas, rest = gradients[: len(outputs)], iter(gradients[len(outputs) :])
    others = torch.autograd.grad(
        logits, outputs, a.detach() * by_example[:, None], retain_graph=True,
        materialize_grads=True,
    )  # fmt: skip
    for (name, call), delta, other in zip(fit.items(), deltas, others, strict=True):
        own = [next(rest) for _ in call.parameters]
        scaled = delta.detach() * by_example.reshape(-1, *[1] * (delta.ndim - 1))
        if not _is_plain(call, delta.detach(), own):
            found[name] = "its weight is used elsewhere, or changed before it is used"
        elif (other - scaled).norm() > ROUNDING[logits.dtype] * scaled.norm():
            found[name] = "examples of a batch affect each other"
        elif slopes is not None and not _is_affine(call, own, a, logits, slopes):
            found[name] = "the logits are not piecewise linear in its weights"
    return found


def _why_unfit(call: LayerCall, n: int) -> str | None:
    """Why a layer has no patches, one set an example."""
    if not is_covered(call.layer):
        return f"{type(call.layer).__name__} is no linear or convolution layer"
    if call.calls != 1:
        return f"its forward is called {call.calls} times"
    if call.x is None or call.output is None:
        return "its forward takes or gives something else than one tensor"
    if not call.weight.requires_grad:
        return "its weight is not a trainable parameter"
    if len(call.x) != n or len(call.output) != n:
        return f"it gets {len(call.x)} rows for {n} examples"
    return None


def _is_plain(call: LayerCall, delta: Tensor, gradients: list[Tensor]) -> bool:
    """Whether a layer's weights act as they do in a plain layer, and nowhere else.

    Args:
        call: of the layer.
        delta: gradient of a random combination of all logits by its output.
        gradients: by its parameters.
    """
    assert call.x is not None
    assert call.output is not None
    own = [parameter.detach().requires_grad_() for parameter in call.parameters]
    bias = call.bias if len(own) == 1 else own[1]
    output = applied(call.layer, call.x.detach(), own[0], bias)
    tolerance = ROUNDING[output.dtype]
    if output.shape != call.output.shape:
        return False
    if (output - call.output).detach().norm() > tolerance * call.output.detach().norm():
        return False
    expected = torch.autograd.grad(output, own, delta)
    return all(
        bool((e - g.detach()).norm() <= tolerance * g.detach().norm())
        for e, g in zip(expected, gradients, strict=True)
    )


def _is_affine(
    call: LayerCall, gradients: list[Tensor], a: Tensor, logits: Tensor, slopes: Tensor
) -> bool:
    """Whether the second derivatives of logits by the weights of a layer are negligible.

    Args:
        call: of the layer.
        gradients: of the combination of all logits by its parameters, with their graph.
        a: the random numbers of this combination [n, C].
        logits: [n, C].
        slopes: of the loss [n, C].
    """
    graph = [each for each in gradients if each.requires_grad]
    if not graph:
        return True
    along = [gaussian(g.numel(), g, 2, i).reshape(g.shape) for i, g in enumerate(graph)]
    *seconds, first = torch.autograd.grad(
        graph, [*call.parameters, a], along, retain_graph=True, materialize_grads=True
    )
    first = first.detach().double()  # J v
    p = logits.detach().double().softmax(1)
    square = first.square().sum()
    curved = (p * (first - (p * first).sum(1, keepdim=True)).square()).sum()  # v' G v
    norm = torch.stack([each.double().norm() for each in seconds]).norm()
    length = torch.stack([each.double().norm() for each in along]).norm()
    # random weights let the examples cancel each other, dL/dz need not
    left_out = norm * length * len(logits) ** 0.5
    slope = slopes.double().square().sum(1).mean().sqrt()
    most = _LEFT_OUT[logits.dtype]
    return bool(left_out <= most * square and left_out * slope <= most * curved)
