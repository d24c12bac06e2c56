"""The exact Hessian of any layer of a piecewise linear network, from its Jacobian.

With all other layers fixed, the logits z are affine in the weight W of the layer, in pieces. So the
diagonal block of the Hessian is that of the generalized Gauss-Newton matrix, exactly. With the
predicted probabilities p and J_c = dz_c/dW [F, d] of an example,

    D_c = sqrt(p_c) (J_c - sum_k p_k J_k),    T = mean_n sum_c D_c D_c'    [F, F]

One backward pass a class gives all layers. Labels do not enter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

from torch import Tensor

from lla.layers.calls import LayerCall
from lla.layers.class_gradients import class_gradients
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
    totals = {
        name: Curvature.zeros(call.weight.shape[0], call.weight) for name, call in calls.items()
    }
    outputs = [call.output for call in calls.values() if call.output is not None]
    bytes_of_one = sum(output.numel() * output.element_size() for output in outputs)
    at_once = max(1, byte_budget(logits.device) // max(1, bytes_of_one))
    found = class_gradients(calls, logits, progress)
    while group := list(islice(found, at_once)):
        for name, call in calls.items():
            _add(totals[name], call, [each[name] for each in group], scales.get(name))
    n = len(logits)
    for total in totals.values():
        total.table /= n
        total.bias /= n
    return totals


def _add(total: Curvature, call: LayerCall, deltas: Sequence[Tensor], scale: Tensor | None) -> None:
    """Add what some classes give, a few examples at a time.

    Args:
        total: of the layer.
        call: of the layer.
        deltas: of these classes, see `lla.layers.class_gradients`.
        scale: see `jacobian_blocks`.
    """
    assert call.x is not None
    first = deltas[0]
    n, positions = len(first), by_position(call.layer, first[:1]).shape[3]
    size = call.weight[0].numel()
    each = size * positions * groups_of(call.layer) + call.weight.numel() + 2 * first[0].numel()
    for rows in parts(n, each, first.device):
        found = _Patches(call, rows, scale)
        for delta in deltas:
            found.add(by_position(call.layer, delta[rows]), total)


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
