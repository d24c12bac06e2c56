"""Calls of operations in parts: their arguments in a row, their results, how tensors are stored."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from torch import Tensor

# Of the arguments of an operation: for each its name, "" by position, and whether it is a list or a
# tuple and of how many; -1 for what stands alone.
Structure = tuple[tuple[str, type, int], ...]


def flat(args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Any], Structure]:
    """The arguments of an operation in one list, with the elements of lists; and how they stood.

    This is what `torch.utils._pytree` does, in a tenth of the time: ATen has no lists of lists.
    """
    leaves: list[Any] = []
    structure = []
    for name, value in itertools.chain((("", arg) for arg in args), kwargs.items()):
        kind = type(value)
        if kind is list or kind is tuple:
            leaves += value
            structure.append((name, kind, len(value)))
        else:
            leaves.append(value)
            structure.append((name, object, -1))
    return leaves, tuple(structure)


def arguments(leaves: list[Any], structure: Structure) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that stand in one list, by position and by name."""
    args, kwargs, place = [], {}, 0
    for name, kind, size in structure:
        value = leaves[place] if size < 0 else kind(leaves[place : place + size])
        place += 1 if size < 0 else size
        if name:
            kwargs[name] = value
        else:
            args.append(value)
    return tuple(args), kwargs


def written_places(func: Any, structure: Structure) -> tuple[int, ...]:
    """The places, in the list of its arguments, of those that an operation writes into."""
    named = {argument.name: argument for argument in func._schema.arguments}
    found: list[int] = []
    place = 0
    for i, (name, _, size) in enumerate(structure):
        argument = named[name] if name else func._schema.arguments[i]
        width = 1 if size < 0 else size
        if argument.alias_info is not None and argument.alias_info.is_write:
            found += range(place, place + width)
        place += width
    return tuple(found)


def written(func: Any, leaves: Sequence[Any], structure: Structure) -> list[Tensor]:
    """The tensors that an operation writes into."""
    places = written_places(func, structure)
    return [leaves[place] for place in places if isinstance(leaves[place], Tensor)]


def leaves_of(out: Any) -> list[Any]:
    """The results of an operation in one list."""
    if not isinstance(out, (list, tuple)):
        return [out]
    return [leaf for part in out for leaf in leaves_of(part)]


def stored(tensor: Tensor) -> tuple[Any, ...]:
    """Shape, strides, type, offset, and how many numbers the storage has."""
    size = tensor.untyped_storage().nbytes() // tensor.element_size()
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.storage_offset(), size


def vanishes(tensor: Tensor) -> bool:
    """Whether a tensor has zeros alone; the first numbers of most tensors say that it has not."""
    if tensor.is_contiguous() and bool(tensor.reshape(-1)[:256].any()):
        return False
    return not bool(tensor.any())
