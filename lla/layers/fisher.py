"""The Fisher matrix of a layer's weight as an operator, from its gradients class by class."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lla.batches import Batch
from lla.free_memory import check_fits
from lla.hessian.symmetric import SymmetricOperator
from lla.layers import chosen as names_of
from lla.layers.calls import LayerCall, called
from lla.layers.class_gradients import class_gradients
from lla.layers.moments import check_cross_entropy, check_layers
from lla.layers.patches import by_position, patches
from lla.loss_call import logits as logits_of
from lla.problem import Problem


class FisherOperator(SymmetricOperator):
    """E[g g'] of the gradients g of -log p_c by a layer's weight.

    By default c is drawn from the predicted probabilities, and the mean over it is exact. For a
    mean cross-entropy this is the generalized Gauss-Newton matrix. Gradients by the layer's output
    are kept for all examples and classes, and products need no further pass through the network.

    Args:
        problem: a network with the mean cross-entropy of logits [n, C].
        layer: a name as in `named_modules`, of a linear layer or a convolution.
        empirical: take the labels in place of the predicted probabilities.

    Raises:
        InputError: no such layer, or another loss.
        InsufficientMemoryError: the gradients do not fit into the memory that is available.

    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2))
    >>> batch = torch.rand(4, 3), torch.tensor([0, 1, 0, 1])
    >>> FisherOperator(Problem(model, batch), "0").shape
    (6, 6)
    """

    kind = "Fisher matrix"

    def __init__(self, problem: Problem, layer: str, empirical: bool = False) -> None:
        (self.layer,) = names_of.chosen(problem, [layer])
        weight = names_of.weight_name(problem, self.layer)
        self.space = problem.space.select(f"re:^{re.escape(weight)}$")
        super().__init__(self.space.size, problem.dtype, problem.device)
        problem.loss()
        self._parts: list[_Part] = []
        for i, (batch, share) in enumerate(zip(problem.batches, problem.coefficients, strict=True)):
            with called(problem, batch, [self.layer]) as (output, calls):
                check_cross_entropy(problem, batch, output, i)
                logits = logits_of(output)
                check_layers(calls, logits, i)
                make = _empirical if empirical else self._predicted
                self._parts.append(make(calls, logits, batch, share))

    def multiplied(self, rows: Tensor) -> Tensor:
        """The product with each row of a matrix [K, P]."""
        total = torch.zeros_like(rows)
        for part in self._parts:
            for row, found in zip(rows, total, strict=True):
                found += part.product(row)
        return total

    def _predicted(
        self, calls: dict[str, LayerCall], logits: Tensor, batch: Batch, share: float
    ) -> _Part:
        call = calls[self.layer]
        assert call.output is not None
        assert call.x is not None
        found = patches(call.layer, call.x.detach())
        check_fits(
            2 * logits.shape[1] * call.output.numel() * call.output.element_size(),
            self.device,
            f"the gradients of {self.layer} by {logits.shape[1]} classes",
            "take fewer examples, or GGNOperator, which keeps none",
        )
        deltas = [
            by_position(call.layer, each[self.layer]) for each in class_gradients(calls, logits)
        ]
        return _Part(torch.stack(deltas, 1), found, share / len(logits))


def _empirical(calls: dict[str, LayerCall], logits: Tensor, batch: Batch, share: float) -> _Part:
    """The gradients of the labels' own losses."""
    (call,) = calls.values()
    assert call.output is not None
    assert call.x is not None
    found = patches(call.layer, call.x.detach())
    value = F.cross_entropy(logits, batch.y, reduction="sum")
    (delta,) = torch.autograd.grad(value, call.output, retain_graph=True, materialize_grads=True)
    delta = by_position(call.layer, delta)
    return _Part(delta[:, None], found, share / len(logits))


@dataclass
class _Part:
    """What a batch gives: the gradient of class c is sum_q delta_q patch_q'."""

    deltas: Tensor  # [n, C, G, F / G, Q]
    patches: Tensor  # [n, G, d, Q]
    share: float  # of each example

    def product(self, row: Tensor) -> Tensor:
        """The share of the product [P] with a vector [P]."""
        _, groups, size, _ = self.patches.shape
        W = row.reshape(groups, -1, size)
        outputs = W @ self.patches  # [n, G, F / G, Q]
        along = torch.einsum("ncgfq,ngfq->nc", self.deltas, outputs)
        together = torch.einsum("nc,ncgfq->ngfq", along, self.deltas)
        return torch.einsum("ngfq,ngdq->gfd", together, self.patches).flatten() * self.share
