"""The exact Hessian of any layer of a piecewise linear network, from its Jacobian.

With all other layers fixed, the logits z are affine in the weight W of the layer, in pieces. So the
diagonal block of the Hessian is that of the generalized Gauss-Newton matrix, exactly. With the
predicted probabilities p and J_c = dz_c/dW [F, d] of an example,

    D_c = sqrt(p_c) (J_c - sum_k p_k J_k),    T = mean_n sum_c D_c D_c'    [F, F]

One backward pass a class gives all layers. Labels do not enter.

D does not change if one J is taken from all of them. That of the likeliest class is: of a sure
prediction the difference of J_c and the mean would be rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from lla.layers.calls import LayerCall
from lla.layers.curvature import Curvature
from lla.layers.parts import byte_budget, parts
from lla.layers.patches import by_position, example_gradients, groups_of, patches


def jacobian_blocks(
    calls: Mapping[str, LayerCall],
    logits: Tensor,
    scales: Mapping[str, Tensor],
    progress: bool = False,
) -> dict[str, Curvature]:
    """The curvature of some layers, as means over the examples of a batch.

    Args:
        calls: of the layers, by name, in the graph of the logits.
        logits: [n, C].
        scales: by layer, standard deviations of the elements of a patch [G, d], by which they are
            divided; layers that are missing keep theirs.
        progress: show a bar over the classes.
    """
    n, classes = logits.shape
    outputs = [call.output for call in calls.values() if call.output is not None]
    totals = {
        name: Curvature.zeros(call.weight.shape[0], call.weight) for name, call in calls.items()
    }
    p = logits.detach().double().softmax(1)
    best = torch.nn.functional.one_hot(p.argmax(1), classes).to(p)

    def deltas(cotangent: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(
            logits, outputs, cotangent.to(logits), retain_graph=True, materialize_grads=True
        )

    others = p * (1 - best)
    means = deltas(others - best * others.sum(1, keepdim=True))
    bytes_of_one = sum(output.numel() * output.element_size() for output in outputs)
    at_once = max(1, byte_budget(logits.device) // max(1, bytes_of_one))
    with tqdm(total=classes, desc="classes", disable=not progress) as bar:
        for start in range(0, classes, at_once):
            group = range(start, min(start + at_once, classes))
            found = []
            for c in group:
                one = torch.zeros_like(p)
                one[:, c] = 1
                found.append(deltas(one - best))
                bar.update()
            roots = p[:, start : group.stop].sqrt().to(logits)
            for i, (name, call) in enumerate(calls.items()):
                mine = [each[i] for each in found]
                _add(totals[name], call, mine, means[i], roots, scales.get(name))
    for total in totals.values():
        total.table /= n
        total.bias /= n
    return totals


def _add(
    total: Curvature,
    call: LayerCall,
    deltas: Sequence[Tensor],
    mean: Tensor,
    roots: Tensor,
    scale: Tensor | None,
) -> None:
    """Add what some classes give, a few examples at a time.

    Args:
        total: of the layer.
        call: of the layer.
        deltas: gradients of the logits by its output, one a class.
        mean: their mean under the predicted probabilities.
        roots: of these probabilities, [n, classes].
        scale: see `jacobian_blocks`.
    """
    assert call.x is not None
    n, positions = len(mean), by_position(call.layer, mean[:1]).shape[3]
    size = call.weight[0].numel()
    each = size * positions * groups_of(call.layer) + call.weight.numel() + 2 * mean[0].numel()
    for rows in parts(n, each, mean.device):
        found = _Patches(call, rows, scale)
        for k, delta in enumerate(deltas):
            root = roots[rows, k].reshape(-1, *[1] * (delta.ndim - 1))
            found.add(by_position(call.layer, (delta[rows] - mean[rows]) * root), total)


class _Patches:
    """The patches of some examples, and the cheaper of two ways to use them.

    Args:
        call: of the layer.
        rows: the examples.
        scale: see `jacobian_blocks`.
    """

    def __init__(self, call: LayerCall, rows: slice, scale: Tensor | None) -> None:
        assert call.x is not None
        self._found = patches(call.layer, call.x[rows].detach())
        if scale is not None:
            self._found = (self._found / scale[:, :, None]).to(self._found.dtype)
        _, groups, size, positions = self._found.shape
        filters = call.weight.shape[0] // groups
        by_gradient = filters * size * (positions + filters)
        by_gram = filters * positions * (positions + filters)
        # filters of two groups see different patches, whose products the Gram matrix lacks
        self._grams = None
        if groups == 1 and by_gram < by_gradient and positions**2 < 4 * size * filters:
            wide = self._found[:, 0].double()
            self._grams = wide.transpose(1, 2) @ wide  # [n, Q, Q]

    def add(self, off: Tensor, total: Curvature) -> None:
        """Add what the gradients of one class by the output [n, G, F / G, Q] give."""
        total.bias += float(off.sum(3).double().square().sum())
        if self._grams is not None:
            wide = off[:, 0].double()
            total.table += ((wide @ self._grams) @ wide.transpose(1, 2)).sum(0)
            return
        each = example_gradients(off, self._found).double()  # [n, F, d]
        flat = each.transpose(0, 1).flatten(1)  # [F, n d]
        total.table += flat @ flat.T
