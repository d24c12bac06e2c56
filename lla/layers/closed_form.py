"""The Hessian of the last layer before logits or before a plain linear classifier, in closed form.

The output u [n, F, Q] of the layer goes, filter by filter, through what is piecewise linear and is
averaged over positions: g = sum_q rho u + constant, and the logits are V g + c. With patches x of
the layer's input, the effective patch xbar_nf = sum_q rho_nfq x_nq, and the covariance of the
classifier's columns under the predicted probabilities,

    T_fg = 1/n sum_n Cov_n(V_f, V_g) <xbar_nf, xbar_ng>

(Taleghani, Mohammadi and Marchetti 2026, arXiv:2603.09016). It takes one forward pass and one
vector-Jacobian product. The layer may also give the logits itself; then V is the identity.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lla.layers.calls import LayerCall
from lla.layers.curvature import Curvature
from lla.layers.parts import parts
from lla.layers.patches import by_position, example_gradients, groups_of, patches
from lla.precision import ROUNDING
from lla.probes import gaussian


def classifier_of(calls: dict[str, LayerCall], logits: Tensor) -> str | None:
    """The name of the linear layer whose output the logits are, if one is."""
    for name, call in calls.items():
        if (
            isinstance(call.layer, nn.Linear)
            and call.calls == 1
            and call.output is not None
            and call.output.shape == logits.shape
            and call.x is not None
            and torch.equal(call.output.detach(), logits.detach())
        ):
            own = F.linear(call.x, call.weight, call.bias)
            apart = (own - logits).norm()
            return name if apart <= ROUNDING[logits.dtype] * logits.norm() else None
    return None


def filter_weights(
    call: LayerCall, logits: Tensor, features: Tensor, classifier: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    """What the closed form needs of a layer.

    Args:
        call: of the layer.
        logits: [n, C].
        features: g [n, F], in the graph of the layer's output.
        classifier: V [C, F]; None where the features are the logits.

    Returns:
        rho, the gradient of the sum of all features by the layer's output, and V; None if a feature
        depends on another filter than its own.
    """
    if call.output is None or features.ndim != 2 or len(features) != len(logits):
        return None
    axis = -1 if isinstance(call.layer, nn.Linear) else 1
    if call.output.shape[axis] != features.shape[1]:
        return None
    r = gaussian(features.numel(), features, 3).reshape(features.shape)
    rho, mixed = (
        torch.autograd.grad(
            features, call.output, cotangent, retain_graph=True, materialize_grads=True
        )[0]
        for cotangent in (torch.ones_like(features), r)
    )
    if (mixed - _by_filter(call, r, rho) * rho).norm() > ROUNDING[rho.dtype] * mixed.norm():
        return None
    if classifier is None:
        classifier = torch.eye(features.shape[1], dtype=features.dtype, device=features.device)
    return rho, classifier.detach()


def explains(call: LayerCall, logits: Tensor, rho: Tensor, classifier: Tensor) -> bool:
    """Whether the logits depend on a layer's output through its features alone.

    Args:
        call: of the layer.
        logits: [n, C].
        rho: see `filter_weights`.
        classifier: V [C, F].
    """
    assert call.output is not None
    a = gaussian(logits.numel(), logits, 6).reshape(logits.shape)
    (delta,) = torch.autograd.grad(
        logits, call.output, a, retain_graph=True, materialize_grads=True
    )
    expected = rho * _by_filter(call, a @ classifier, rho)
    return bool((delta - expected).norm() <= ROUNDING[rho.dtype] * delta.norm())


def _by_filter(call: LayerCall, values: Tensor, like: Tensor) -> Tensor:
    """One number an example and filter [n, F], in the shape of the layer's output."""
    middle = [1] * (like.ndim - 2)
    shape = (*middle, -1) if isinstance(call.layer, nn.Linear) else (-1, *middle)
    return values.reshape(len(values), *shape)


def closed_form(
    call: LayerCall, logits: Tensor, rho: Tensor, classifier: Tensor, scale: Tensor | None
) -> Curvature:
    """The curvature of a layer, as a mean over the examples of a batch.

    Args:
        call: of the layer.
        logits: [n, C].
        rho: see `filter_weights`.
        classifier: V [C, F].
        scale: standard deviations of the elements of a patch [G, d], by which they are divided.
    """
    assert call.x is not None
    n = len(logits)
    p, V = logits.detach().double().softmax(1), classifier.double()
    best = p.argmax(1)
    total = Curvature.zeros(V.shape[1], V)
    diagonal = torch.arange(V.shape[1], device=V.device)
    positions = rho[0].numel() // V.shape[1]
    each = call.weight[0].numel() * positions * groups_of(call.layer)
    for rows in parts(n, V.shape[1] ** 2 + V.numel() + call.weight.numel() + each, V.device):
        found = patches(call.layer, call.x[rows].detach())
        if scale is not None:
            found = found / scale[:, :, None]
        mine = by_position(call.layer, rho[rows]).double()
        mean = example_gradients(mine, found.double())  # [b, F, d]
        # from the likeliest class: of a sure prediction V and its mean are nearly equal
        away = V - V[best[rows], None]  # [b, C, F]
        off = (away - p[rows, None] @ away) * p[rows].sqrt()[:, :, None]
        spread = off.transpose(1, 2) @ off
        total.table += (spread * (mean @ mean.transpose(1, 2))).sum(0)
        weights = mine.sum(3).flatten(1)  # [b, F]
        total.bias += float((spread[:, diagonal, diagonal] * weights.square()).sum())
    total.table /= n
    total.bias /= n
    return total
