"""Tensors that share memory with the parameters of a model."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from lla.errors import InputError


def check_memory(model: nn.Module) -> None:
    """Raise unless each parameter has memory of its own.

    Raises:
        InputError: two of them share some, so they cannot have values of their own.
    """
    places = sorted(
        (*_memory(p), name)
        for name, p in model.named_parameters()
        if _is_dense(p) and p.is_contiguous()
    )
    for (_, end, name), (start, _, other) in pairwise(places):
        if start < end:
            raise InputError(
                f"the parameters {name} and {other} share memory, but are two parameters: tie them "
                "by assigning the parameter itself, as in a.weight = b.weight"
            )


def _memory(tensor: Tensor) -> tuple[int, int]:
    """Where the elements of a tensor begin and end in memory."""
    start = tensor.data_ptr()
    return start, start + (_reach(tensor) + 1) * tensor.element_size()


def _reach(tensor: Tensor) -> int:
    """How many elements the last element of a tensor is from the first."""
    return sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))


def _is_dense(tensor: Tensor) -> bool:
    """Whether a tensor has elements in memory of its own device."""
    return tensor.layout == torch.strided and tensor.numel() > 0


class Aliases:
    """Finds what takes the place of a view of a parameter, such as `self.w = self.fc.weight.data`.

    Args:
        pairs: of parameters and what takes their places.
    """

    def __init__(self, pairs: list[tuple[Tensor, Tensor]]) -> None:
        self._pairs = {
            own.untyped_storage().data_ptr(): (own, other)
            for own, other in pairs
            if _is_dense(own) and own.is_contiguous()
        }
        self._places = [_memory(own) for own, _ in pairs if _is_dense(own)]

    def refuse(self, value: Tensor) -> None:
        """Raise if a tensor has memory of a parameter.

        Raises:
            InputError: it has, and it is no view that could be made of another tensor.
        """
        if not _is_dense(value):
            return
        start, end = _memory(value)
        for first, last in self._places:
            if start < last and first < end:
                raise InputError(
                    f"a module holds a tensor {tuple(value.shape)} that shares memory with a "
                    "parameter and is no view of it that can follow it: compute it in forward"
                )

    def of(self, value: Tensor) -> Tensor | None:
        """The same view of the other tensor; None if this is no view of a parameter."""
        if not _is_dense(value):
            return None
        own, other = self._pairs.get(value.untyped_storage().data_ptr(), (None, None))
        if own is None or other is None or own is value or value.dtype != own.dtype:
            return None
        start = value.storage_offset() - own.storage_offset()
        if start < 0 or start + _reach(value) >= own.numel():
            return None  # of another parameter in the same memory
        places = torch.arange(own.numel(), device=other.device)
        places = places.as_strided(value.shape, value.stride(), start)
        view = other.reshape(-1)[places.reshape(-1)].reshape(value.shape)
        return view if value.requires_grad else view.detach()
