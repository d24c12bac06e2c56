"""The two factors of a layer's curvature: of its outputs, E[M], and of its inputs, E[xx'].

With z the logits, p their softmax, u the output of the layer and B = dz/du of an example,
M = B' (diag(p) - p p') B. A linear layer that each example passes once has the generalized
Gauss-Newton matrix E[M (x) xx'] by its weight W [F, d], with vec(W) row by row. In a convolution,
and where an example has several positions q, M is the sum of M_qq over positions and xx' the mean
over positions, as in Grosse and Martens (2016): this leaves out what different positions have in
common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lla.batches import Batch
from lla.errors import InputError
from lla.layers.calls import LayerCall, called
from lla.layers.class_gradients import class_gradients
from lla.layers.conditions import slopes, why_no_cross_entropy, why_not_exact
from lla.layers.parts import parts
from lla.layers.patches import by_position, patches
from lla.loss_call import logits as logits_of
from lla.problem import Problem


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
        with called(problem, batch, names) as (output, calls):
            check_cross_entropy(problem, batch, output, i)
            logits = logits_of(output)
            check_layers(calls, logits, i)
            for name, why in why_not_exact(calls, logits, slopes(problem, batch, logits)).items():
                found[name].why = found[name].why or why
            for name, call in calls.items():
                _add_inputs(found[name], call, share)
            for deltas in class_gradients(calls, logits, progress):
                for name, off in deltas.items():
                    _add_outputs(found[name], calls[name], off, share)
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


def check_cross_entropy(problem: Problem, batch: Batch, output: Any, index: int) -> None:
    """Raise unless the loss of a batch is a mean cross-entropy.

    Raises:
        InputError: it is another.
    """
    whole = problem.findings.call.takes_model
    why = (
        "the loss is a function of the model"
        if whole
        else why_no_cross_entropy(problem, batch, output)
    )
    if why is not None:
        raise InputError(
            "the factors of a layer and its Fisher matrix need a mean cross-entropy of logits "
            f"[n, C], but (batch {index}) {why}: take torch.nn.functional.cross_entropy"
        )


def check_layers(calls: Mapping[str, LayerCall], logits: Tensor, index: int) -> None:
    """Raise unless the Gauss-Newton matrix of layers is that of single examples and patches.

    Raises:
        InputError: that of a layer is not; it is named.
    """
    for name, why in why_not_exact(calls, logits, None).items():
        raise InputError(
            f"{name} has no curvature by inputs and outputs (batch {index}): {why}; leave it out "
            "of layers"
        )


def _add_inputs(found: Moments, call: LayerCall, share: float) -> None:
    """Add the inputs of a layer in a batch, with the batch's share."""
    assert call.x is not None
    assert call.output is not None
    size = len(found.mean)
    positions = call.output[0].numel() // len(found.M)
    count = len(call.x) * positions
    for rows in parts(len(call.x), 2 * size * positions, call.x.device):
        seen = patches(call.layer, call.x[rows].detach())[:, 0].double()  # [n, d, Q]
        flat = seen.transpose(0, 1).flatten(1)  # [d, n Q]
        found.xx += flat @ flat.T * (share / count)
        found.mean += flat.sum(1) * (share / count)


def _add_outputs(found: Moments, call: LayerCall, off: Tensor, share: float) -> None:
    """Add the gradients of a class by the output of a layer in a batch."""
    for rows in parts(len(off), 2 * off[0].numel(), off.device):
        flat = by_position(call.layer, off[rows])[:, 0].double()  # [n, F, Q]
        flat = flat.transpose(0, 1).flatten(1)
        found.M += flat @ flat.T * (share / len(off))
