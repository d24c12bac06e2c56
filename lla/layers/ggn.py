"""The generalized Gauss-Newton matrix of a layer's weight as an operator."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from lla.batches import Batch
from lla.door import check_derivatives
from lla.errors import InputError
from lla.hessian.symmetric import SymmetricOperator
from lla.layers import chosen as names_of
from lla.layers.calls import called
from lla.layers.patches import is_covered
from lla.loss_call import logits as logits_of
from lla.loss_call import own_loss
from lla.problem import Problem


class GGNOperator(SymmetricOperator):
    """E[J' A J]: J is the Jacobian of the output by a layer's weight, A the loss's Hessian by it.

    Products come from Jacobian-vector products, and are exact for any layer and any loss of the
    network's output. Where the output is piecewise linear in the weight it is the diagonal block of
    the Hessian. The bias is not part of it.

    Args:
        problem: network, loss and data.
        layer: a name as in `named_modules`.
        mean: of the layer's patches [d], as `lla.layers.moments` gives it. The matrix is then that
            of the centred parametrisation: the layer works on its inputs minus this mean, and its
            bias takes up what that changes, so that the network is the same function. For a linear
            layer it is E[M (x) (x - mean)(x - mean)']. The Hessian's block by the weight alone does
            not tell this matrix.

    Raises:
        InputError: no single layer of that name; the loss is no function of one output tensor; a
            mean for a layer that is no linear or convolution layer without groups, or of another
            length.

    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2))
    >>> batch = torch.rand(4, 3), torch.tensor([0, 1, 0, 1])
    >>> GGNOperator(Problem(model, batch), "0").shape
    (6, 6)
    """

    kind = "Gauss-Newton matrix"

    def __init__(self, problem: Problem, layer: str, mean: Tensor | None = None) -> None:
        (self.layer,) = names_of.chosen(problem, [layer])
        call = problem.findings.call
        if call.takes_model or problem.findings.by_parameters:
            raise InputError(
                "a Gauss-Newton matrix needs a loss of the network's output, and this is one of "
                "the model: give loss= a function of (output, y)"
            )
        space = problem.space
        weight = names_of.weight_name(problem, self.layer)
        self.space = space.select(f"re:^{re.escape(weight)}$")
        self._means = None if mean is None else {self.layer: _fitting(problem, self.layer, mean)}
        super().__init__(self.space.size, space.dtype, space.device)
        problem.loss()
        check_derivatives(problem)
        # the weights of now, as `lla.HessianOperator` keeps them
        self.problem = problem.at(problem.theta())
        self._of_batch(next(iter(problem.batches)), self.like.new_zeros(1, self.space.size))

    def multiplied(self, rows: Tensor) -> Tensor:
        """The product with each row of a matrix [K, P]."""
        total = torch.zeros_like(rows)
        batches = zip(self.problem.batches, self.problem.coefficients, strict=True)
        for batch, share in batches:
            total.add_(self._of_batch(batch, rows), alpha=share)
        return total

    def _of_batch(self, batch: Batch, rows: Tensor) -> Tensor:
        problem = self.problem
        with called(problem, batch, [self.layer], self._means) as (whole, calls):
            output = whole if problem.findings.call.whole_output else logits_of(whole)
            if problem.findings.call.loss is None and own_loss(whole) is not None:
                raise InputError(
                    "a Gauss-Newton matrix needs a loss of the network's output, and the model "
                    "computes its own loss: give loss= a function of (output, y)"
                )
            if not isinstance(output, Tensor):
                raise InputError(
                    f"a Gauss-Newton matrix needs one output tensor, not a "
                    f"{type(output).__name__}: let the network return its logits alone"
                )
            weight = calls[self.layer].weight
            if not output.requires_grad:
                return torch.zeros_like(rows)
            z = output.detach().requires_grad_()
            value = problem.objective.of_output(z, batch)
            (slope,) = torch.autograd.grad(value, z, create_graph=True, materialize_grads=True)
            # J'u is linear in u, so its derivative by u along v is J v
            u = torch.zeros_like(output, requires_grad=True)
            (back,) = torch.autograd.grad(
                output, weight, u, create_graph=True, materialize_grads=True
            )
            found = []
            for row in rows:
                forward = _along(back, u, row.reshape(weight.shape))
                (product,) = torch.autograd.grad(
                    output, weight, _along(slope, z, forward), retain_graph=True,
                    materialize_grads=True,
                )  # fmt: skip
                found.append(product.detach().flatten())
        return torch.stack(found)


def _along(gradient: Tensor, by: Tensor, vector: Tensor) -> Tensor:
    """The derivative of gradient . vector by a tensor; zero where it does not depend on it."""
    if not gradient.requires_grad:
        return torch.zeros_like(by)
    (found,) = torch.autograd.grad(gradient, by, vector, retain_graph=True, materialize_grads=True)
    return found


def _fitting(problem: Problem, layer: str, mean: Tensor) -> Tensor:
    """A mean that fits a layer."""
    module = problem.model.get_submodule(layer)
    if not is_covered(module) or getattr(module, "groups", 1) != 1:
        raise InputError(
            f"{layer} ({type(module).__name__}) has no inputs to centre: name a linear layer or a "
            "convolution without groups"
        )
    weight = module.weight
    assert isinstance(weight, Tensor)
    if mean.shape != (weight[0].numel(),):
        raise InputError(
            f"the mean is {list(mean.shape)}: {layer} has patches of {weight[0].numel()} elements"
        )
    return mean
