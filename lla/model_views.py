"""Copies of a model's modules that share tensors with it, and the inputs of its call."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils import _pytree as pytree

Mode = Literal["eval", "train"]


def private_view(model: nn.Module, mode: Mode) -> nn.Module:
    """A copy of the model's modules, with its own training flags and the model's tensors.

    In train mode BatchNorm normalises with the batch and does not update its running statistics.
    """
    view = with_tensors(model, {}).train(mode == "train")
    if mode == "train":
        for module in view.modules():
            if getattr(module, "track_running_stats", False):
                vars(module)["track_running_stats"] = False
    return view


def with_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the model's modules with the named tensors, and otherwise the model's tensors."""
    kept: dict[int, Any] = {}  # id of a tensor -> the tensor of the copy
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor):  # not registered; deepcopy refuses those with a history
                kept[id(value)] = value.detach().clone()
    for name, parameter in model.named_parameters():
        kept[id(parameter)] = (
            nn.Parameter(tensors[name], parameter.requires_grad) if name in tensors else parameter
        )
    for name, buffer in model.named_buffers():
        kept[id(buffer)] = tensors.get(name, buffer)
    return copy.deepcopy(model, kept)


def model_inputs(x: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of the model's call, as copies.

    A network may work in place on its input, and a loader may refill its tensors.
    """
    x = pytree.tree_map_only(Tensor, Tensor.clone, x)
    if isinstance(x, Mapping):
        return (), dict(x)
    return (tuple(x) if isinstance(x, (tuple, list)) else (x,)), {}
