"""Buffers that go along with the weights on the way to another model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lla.errors import InputError
from lla.problem import Problem


@dataclass(frozen=True)
class MovingBuffers:
    """The buffers b_0 + sum_k c_k (b_k - b_0); those that are the same everywhere are left out."""

    start: Mapping[str, Tensor] = field(default_factory=dict)  # b_0 by name
    changes: tuple[Mapping[str, Tensor], ...] = ()  # b_k - b_0 by name, one mapping an axis

    def __bool__(self) -> bool:
        """Whether any buffer moves."""
        return bool(self.start)

    def at(self, coefficients: Tensor) -> dict[str, Tensor]:
        """The buffers of one point, coefficients [K] in float64; a variance is never negative."""
        found = {name: tensor.clone() for name, tensor in self.start.items()}
        if not found:
            return found
        for change, c in zip(self.changes, coefficients.tolist(), strict=True):
            for name, tensor in change.items():
                found[name].add_(tensor, alpha=c)
        for name, tensor in found.items():
            if name.rpartition(".")[2] == "running_var":
                tensor.clamp_(min=0)  # beyond the other model
        return found


def towards_models(problem: Problem, axes: Sequence[Tensor | nn.Module] | Tensor) -> MovingBuffers:
    """How the buffers move along axes that point to other models; along a vector they stay.

    All floating and complex buffers move. A count of batches (`num_batches_tracked`) stays, for
    nothing that is computed in either mode depends on it.

    Raises:
        InputError: a model has other buffers; an integer buffer or a parameter that is not trained
            differs, and the way between has no place for either; a change is not finite.
    """
    state = problem.state()
    changes: list[dict[str, Tensor]] = []
    for axis in axes:
        changes.append({})
        if not isinstance(axis, nn.Module):
            continue
        fixed = {name: tensor.detach() for name, tensor in axis.named_parameters()}
        _check_fixed(problem, state, fixed)
        others = {name: buffer.detach() for name, buffer in axis.named_buffers()}
        for name in sorted({*state, *others} - {*fixed}):
            here, there = state.get(name), others.get(name)
            if here is None or there is None or here.shape != there.shape:
                kinds = [
                    "missing" if b is None else f"of shape {tuple(b.shape)}" for b in (here, there)
                ]
                raise InputError(
                    f"the buffer {name} is {kinds[1]} in the model that an axis points to and "
                    f"{kinds[0]} in this one: give a model of the same architecture"
                )
            change = _change(name, here, there)
            if change is not None:
                changes[-1][name] = change
    start = {name: state[name] for change in changes for name in change}
    return MovingBuffers(start, tuple(changes)) if start else MovingBuffers()


def _change(name: str, here: Tensor, there: Tensor) -> Tensor | None:
    """The other buffer minus this one; None if it stays."""
    floating = here.is_floating_point() or here.is_complex()
    there = there.to(here) if floating else there.to(here.device)
    same = there == here
    if bool(same.all()) or name.rpartition(".")[2] == "num_batches_tracked":
        return None
    if not floating:
        raise InputError(
            f"the {here.dtype} buffer {name} of the model that an axis points to has other values, "
            "and none lie between: give a flat vector as axis, along which buffers stay"
        )
    # equal infinite elements, as in masks, do not move; their difference would be NaN
    change = torch.where(same, torch.zeros_like(here), there - here)
    if not bool(torch.isfinite(change).all()):
        raise InputError(
            f"the buffer {name} of the model that an axis points to differs by NaN or infinite "
            "elements: check where they come from"
        )
    return change


def _check_fixed(
    problem: Problem, state: Mapping[str, Tensor], others: Mapping[str, Tensor]
) -> None:
    """Raise unless both have the same parameters that are not trained: the axis leaves them out."""
    for name, there in others.items():
        here = state.get(name)
        if name in problem.space.names:
            continue
        if here is None or there.shape != here.shape or not torch.equal(there.to(here), here):
            raise InputError(
                f"the parameter {name}, which is not trained, differs in the model that an axis "
                "points to, so the axis does not end there: call requires_grad_(True) on it in "
                "both, or give a flat vector as axis"
            )
