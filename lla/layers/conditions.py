"""Whether formulas for the Hessian of a layer are exact: numerical probes, on the whole batch.

The formulas of `lla.layers.closed_form` and `lla.layers.jacobian_blocks` need a mean cross-entropy
over logits [n, C], examples that do not affect each other, and logits that are affine in the
weights of the layer around their values. The probes look at derivatives, not at the kinds of
modules: so functional ReLUs and modules of the user's own are covered.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lla.batches import Batch
from lla.layers.calls import LayerCall
from lla.layers.patches import by_position, example_gradients, is_covered, patches
from lla.precision import ROUNDING
from lla.probes import gaussian
from lla.problem import Problem

# second derivatives of what is affine, relative to the first: zero but for rounding
_AFFINE = {torch.float32: 1e-5, torch.float64: 1e-12}


def why_no_cross_entropy(problem: Problem, batch: Batch, logits: Any) -> str | None:
    """Why the Hessian of a batch's loss by the logits is not that of a mean cross-entropy.

    That is (diag(p) - p p') / n for each example, whatever the labels; label smoothing changes
    nothing. Compared along a random direction.

    Returns:
        The reason in words, None if it is.
    """
    call = problem.findings.call
    if call.takes_model or problem.findings.by_parameters:
        return "the loss is a function of the model, not of its logits"
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < 2:
        shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        return f"the output is {shape}, not logits [n, C]"
    z = logits.detach().requires_grad_()
    r = gaussian(z.numel(), z, 0).reshape(z.shape)
    value = problem.objective.of_output(z, batch)
    (first,) = torch.autograd.grad(value, z, create_graph=True, materialize_grads=True)
    if not first.requires_grad:
        return "the loss is no cross-entropy of the logits: it is linear in them"
    (found,) = torch.autograd.grad(first, z, r, materialize_grads=True)
    p = z.detach().double().softmax(1)
    expected = p * (r - (p * r).sum(1, keepdim=True)) / len(z)
    scale = (p * r.abs()).norm() / len(z)  # a sure prediction leaves only rounding of the rest
    if (found - expected).norm() > ROUNDING[z.dtype] * scale:
        return "the loss is no mean cross-entropy of the logits"
    return None


def why_not_exact(name: str, call: LayerCall, logits: Tensor, affine: bool = True) -> str | None:
    """Why the formulas are not exact for a layer and a batch.

    Args:
        name: of the layer.
        call: of the layer, in the graph of the logits.
        logits: [n, C].
        affine: whether the logits have to be piecewise linear in the layer's weights. Without that
            the formulas give the generalized Gauss-Newton matrix.

    Returns:
        The reason in words, None if they are.
    """
    if not is_covered(call.layer):
        return f"{type(call.layer).__name__} is no linear or convolution layer"
    if call.calls != 1 or call.x is None or call.output is None:
        return f"its forward is called {call.calls} times, or with more than one tensor"
    if not call.weight.requires_grad:
        return "its weight is not a trainable parameter"
    n = len(logits)
    if len(call.x) != n or len(call.output) != n:
        return f"it gets {len(call.x)} rows for {n} examples"
    a = gaussian(logits.numel(), logits, 1).reshape(logits.shape)
    wanted = [call.output, *call.parameters]
    delta, *gradients = torch.autograd.grad(
        logits, wanted, a, create_graph=True, materialize_grads=True
    )
    size = gradients[0].norm()
    found = patches(call.layer, call.x.detach())
    each = example_gradients(by_position(call.layer, delta.detach(), found.shape[1]), found)
    tolerance = ROUNDING[logits.dtype]
    whole = each.sum(0).reshape(call.weight.shape)
    if (whole - gradients[0].detach()).norm() > tolerance * (each.norm() + size):
        return "its weight is used elsewhere, or changed before it is used"
    if affine and not _is_affine(call, gradients):
        return "the logits are not piecewise linear in its weights"
    half = a.clone()
    half[: n // 2] = 0
    (delta,) = torch.autograd.grad(
        logits, call.output, half, retain_graph=True, materialize_grads=True
    )
    if n > 1 and delta[: n // 2].norm() > tolerance * delta.norm():
        return "examples of a batch affect each other"
    return None


def _is_affine(call: LayerCall, gradients: list[Tensor]) -> bool:
    """Whether the second derivatives of logits by the weights of a layer vanish, along a vector.

    Args:
        call: of the layer.
        gradients: of a random combination of all logits, with their graph.
    """
    graph = [each for each in gradients if each.requires_grad]
    if not graph:
        return True
    along = [gaussian(g.numel(), g, 2, i).reshape(g.shape) for i, g in enumerate(graph)]
    seconds = torch.autograd.grad(
        graph, call.parameters, along, retain_graph=True, allow_unused=True
    )
    # with directions as long as the weights, so that the ratio has no unit
    length = torch.cat([p.detach().flatten() for p in call.parameters]).norm()
    length = length / sum(p.numel() for p in call.parameters) ** 0.5
    size = torch.stack([g.detach().norm() for g in gradients]).norm()
    second = torch.stack([s.norm() for s in seconds if s is not None] or [torch.zeros(())]).norm()
    return bool(second * length <= _AFFINE[call.weight.dtype] * size)
