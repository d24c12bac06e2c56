"""The two factors of a layer's curvature: of its outputs, E[M], and of its inputs, E[xx'].

With z the logits, p their softmax, u the output of the layer and B = dz/du of an example,
M = B' (diag(p) - p p') B. A linear layer that each example passes once has the generalized
Gauss-Newton matrix E[M (x) xx'] by its weight W [F, d], with vec(W) row by row. In a convolution,
and where an example has several positions q, M is the sum of M_qq over positions and xx' the mean
over positions, as in Grosse and Martens (2016): this leaves out what different positions have in
common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lla.errors import InputError
from lla.layers.calls import LayerCall, called
from lla.layers.class_gradients import class_gradients
from lla.layers.conditions import why_no_cross_entropy, why_not_exact
from lla.layers.patches import by_position, patches
from lla.problem import Problem

_AT_ONCE = 2**24  # numbers of a batch in float64 at a time


@dataclass
class Moments:
    """Factors of the curvature of a layer with F outputs and patches of d elements, in float64.

    Attributes:
        M: mean over examples of the curvature by the layer's output, summed over positions [F, F].
        xx: mean over examples and positions of xx' [d, d].
        mean: of x [d].
        why: why the Gauss-Newton block is not the block of the Hessian; empty where it is.
    """

    M: Tensor
    xx: Tensor
    mean: Tensor
    why: str = ""

    @classmethod
    def zeros(cls, filters: int, size: int, device: torch.device) -> Moments:
        """Nothing yet."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float64, device=device)

        return cls(zeros(filters, filters), zeros(size, size), zeros(size))

    @property
    def covariance(self) -> Tensor:
        """E[xx'] of the inputs minus their mean [d, d]."""
        return self.xx - torch.outer(self.mean, self.mean)


def moments(problem: Problem, names: Sequence[str], progress: bool = False) -> dict[str, Moments]:
    """The factors of some layers, as means over all examples.

    Args:
        problem: a network with the mean cross-entropy of logits [n, C].
        names: of linear layers and convolutions without groups, as in `named_modules`.
        progress: show a bar over the classes of each batch.

    Raises:
        InputError: another loss; a layer that is no such layer, is called more than once, has its
            weight used elsewhere, or in which examples affect each other.
    """
    found: dict[str, Moments] = {}
    for name in names:
        check_groups(problem, name)
        weight = problem.model.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        found[name] = Moments.zeros(len(weight), weight[0].numel(), problem.device)
    batches = zip(problem.batches, problem.coefficients, strict=True)
    for i, (batch, share) in enumerate(batches):
        with called(problem, batch, names) as (logits, calls):
            check_cross_entropy(problem, batch, logits, i)
            for name, call in calls.items():
                why = _why_not_hessian(name, call, logits, i)
                found[name].why = found[name].why or why
                _add_inputs(found[name], call, share)
            for deltas in class_gradients(calls, logits, progress):
                for name, off in deltas.items():
                    flat = by_position(calls[name].layer, off, 1)[:, 0]  # [n, F, Q]
                    found[name].M += _outer(flat) * (share / len(off))
    return found


def check_groups(problem: Problem, name: str) -> None:
    """Raise for a layer that is a convolution with groups.

    Raises:
        InputError: it is.
    """
    groups = getattr(problem.model.get_submodule(name), "groups", 1)
    if groups != 1:
        raise InputError(
            f"{name} is a convolution with {groups} groups, whose filters see different inputs, so "
            "that its curvature is no Kronecker product: leave it out of layers"
        )


def check_cross_entropy(problem: Problem, batch: object, logits: object, index: int) -> None:
    """Raise unless the loss of a batch is a mean cross-entropy.

    Raises:
        InputError: it is another.
    """
    why = why_no_cross_entropy(problem, batch, logits)  # type: ignore[arg-type]
    if why is not None:
        raise InputError(
            f"the factors of a layer need a mean cross-entropy of logits [n, C], but (batch "
            f"{index}) {why}: take torch.nn.functional.cross_entropy"
        )


def check_layer(name: str, call: LayerCall, logits: Tensor, index: int) -> None:
    """Raise unless the Gauss-Newton matrix of a layer is that of single examples and patches.

    Raises:
        InputError: it is not.
    """
    why = why_not_exact(name, call, logits, affine=False)
    if why is not None:
        raise InputError(
            f"{name} has no curvature by inputs and outputs (batch {index}): {why}; leave it out "
            "of layers"
        )


def _why_not_hessian(name: str, call: LayerCall, logits: Tensor, index: int) -> str:
    why = why_not_exact(name, call, logits)
    if why is None:
        return ""
    check_layer(name, call, logits, index)
    return why


def _add_inputs(found: Moments, call: LayerCall, share: float) -> None:
    """Add the inputs of a layer in a batch, with the batch's share."""
    assert call.x is not None
    seen = patches(call.layer, call.x.detach())[:, 0]  # [n, d, Q]
    count = len(seen) * seen.shape[2]
    found.xx += _outer(seen) * (share / count)
    found.mean += seen.double().sum((0, 2)) * (share / count)


def _outer(values: Tensor) -> Tensor:
    """The sum of v v' over examples and positions of [n, m, Q], in float64 [m, m]."""
    total = torch.zeros(*[values.shape[1]] * 2, dtype=torch.float64, device=values.device)
    for part in values.split(max(1, _AT_ONCE // max(1, values[0].numel()))):
        rows = part.double().transpose(0, 1).flatten(1)  # [m, n Q]
        total += rows @ rows.T
    return total
