"""The batches that a loss is averaged over: one type for all forms of input, checked once."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lla.errors import InputError


class Batch(NamedTuple):
    """One batch: the model's input, the loss's targets, and the number of examples."""

    x: Any  # tensor [n, ...], or a tuple (positional) or mapping (keyword) of the model's inputs
    y: Any  # targets, [n, ...]
    size: int  # n


class Batches:
    """A sequence of batches that can be read any number of times.

    Args:
        source: one pair (x, y), a sequence of pairs, or a re-iterable loader of pairs.
        device: of the model; every tensor must be there.

    A loader is read twice here and has to give the same bytes both times. With shuffling or random
    augmentation the loss would not be a function of the parameters.

    Raises:
        InputError: no batch, an empty batch, a one-shot iterator, an element that is not a pair, a
            tensor on another device, or different data on the second pass.
    """

    def __init__(self, source: Any, device: torch.device, whole: bool = False) -> None:
        self._source: Iterable[Any] = _as_pairs(source)
        self.device = device
        fixed = self.in_memory
        # one fork for both passes: with the same state in each, shuffling would not be noticed
        with torch.random.fork_rng(devices=[]):
            first, again = (
                [self._inspect(i, pair, digest=not fixed) for i, pair in enumerate(self._source)]
                for _ in range(2)
            )
        if not first:
            raise InputError("there is no batch: give a pair (x, y), a list of them or a loader")
        self.sizes: tuple[int, ...] = tuple(size for size, _ in first)
        if not fixed and again != first:
            where = next(
                (i for i, (a, b) in enumerate(zip(first, again, strict=False)) if a != b),
                min(len(first), len(again)),
            )
            raise InputError(
                f"the loader gives different data on each pass (first at batch {where}), so "
                "the loss is not a function of the parameters: use shuffle=False and no random "
                "augmentation, or pass list(loader)"
            )

    @property
    def in_memory(self) -> bool:
        """Whether all pairs are in memory, so that reading them costs nothing."""
        return isinstance(self._source, tuple)

    @property
    def examples(self) -> int:
        """Number of examples in all batches."""
        return sum(self.sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[Batch]:
        for (x, y, *_), size in zip(_undisturbed(self._source), self.sizes, strict=True):
            yield Batch(x, y, size)

    def split(self, size: int) -> Batches:
        """The same examples in batches of at most `size`; each batch is split on its own.

        Raises:
            InputError: see `micro_batches`.
        """
        if size < 1:
            raise InputError(f"micro_batch is {size}: a micro-batch holds at least one example")
        parts = copy.copy(self)
        source = _Split(self, size)
        # parts of tensors in memory are views; a loader is read again on every pass
        parts._source = tuple(source) if self.in_memory else source
        parts.sizes = tuple(min(size, n - start) for n in self.sizes for start in range(0, n, size))
        return parts

    def _inspect(self, index: int, pair: Any, digest: bool) -> tuple[int, bytes]:
        """Check one element of the source; its number of examples and a digest of its bytes."""
        if isinstance(pair, Batch):
            pair = (pair.x, pair.y)
        if not (isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2):
            raise InputError(
                f"batch {index} is {type(pair).__name__}, not a pair (x, y): wrap the loader so "
                "that it gives the model's input and the loss's target"
            )
        tensors = list(_tensors(pair[0]))
        if not tensors:
            raise InputError(
                f"the input of batch {index} is {type(pair[0]).__name__} and holds no tensor: "
                "convert it with torch.as_tensor"
            )
        if tensors[0].ndim == 0 or len(tensors[0]) == 0:
            raise InputError(f"batch {index} holds no example: leave it out")
        hasher = hashlib.blake2b(digest_size=16)
        for tensor in [*tensors, *_tensors(pair[1])]:
            if tensor.device != self.device:
                raise InputError(
                    f"the model is on {self.device} and batch {index} on {tensor.device}: move "
                    "one of them with .to(device)"
                )
            if digest:
                hasher.update(str((tensor.dtype, tuple(tensor.shape))).encode())
                hasher.update(raw_bytes(tensor))
        return len(tensors[0]), hasher.digest()


@dataclass(frozen=True)
class _Split:
    """The pairs of batches split into micro-batches, again on every pass."""

    batches: Batches
    size: int

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for batch in self.batches:
            yield from micro_batches(batch, self.size)


def micro_batches(batch: Batch, size: int | None) -> list[tuple[Any, Any]]:
    """The pairs (x, y) of a batch in parts of at most `size` examples; None gives the whole batch.

    Every tensor is split along dimension 0 without a copy, also in tuples and mappings. Anything
    else goes with every part.

    Raises:
        InputError: a tensor does not have one row an example.
    """
    if size is None or size >= batch.size:
        return [(batch.x, batch.y)]
    for tensor in [*_tensors(batch.x), *_tensors(batch.y)]:
        if tensor.ndim == 0 or len(tensor) != batch.size:
            raise InputError(
                f"a tensor {tuple(tensor.shape)} of a batch of {batch.size} examples does not have "
                "one row an example, so it cannot be split: leave micro_batch out"
            )
    return [
        (_rows(batch.x, start, start + size), _rows(batch.y, start, start + size))
        for start in range(0, batch.size, size)
    ]


def _rows(value: Any, start: int, stop: int) -> Any:
    """The same nested value with the rows start..stop of every tensor."""
    return pytree.tree_map_only(Tensor, lambda tensor: tensor[start:stop], value)


def _as_pairs(source: Any) -> Iterable[Any]:
    """A tuple of pairs, or the loader itself."""
    if isinstance(source, Sequence) and len(source) == 2:
        x, y = source
        named = isinstance(x, Mapping) or isinstance(y, Tensor)
        if isinstance(x, Tensor) or (named and isinstance(source, tuple)):
            return ((x, y),)
    if isinstance(source, (list, tuple)):
        return tuple(source)
    if isinstance(source, Iterator):
        raise InputError(
            f"batches is a one-shot {type(source).__name__}, and every product reads the data "
            "again: give list(batches) or a loader"
        )
    if not isinstance(source, Iterable):
        raise InputError(
            f"batches is {type(source).__name__}: give a pair (x, y), a list of pairs or a loader"
        )
    return source


def _undisturbed(source: Iterable[Any]) -> Iterator[Any]:
    """The elements of a source, without the change of the global random state by a `DataLoader`."""
    with torch.random.fork_rng(devices=[]):
        iterator = iter(source)
    while True:
        with torch.random.fork_rng(devices=[]):
            try:
                pair = next(iterator)
            except StopIteration:
                return
        yield pair


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def raw_bytes(tensor: Tensor) -> bytes:
    """The values of a tensor as raw bytes."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def model_arguments(x: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    x = pytree.tree_map_only(Tensor, Tensor.clone, x)
    if isinstance(x, Mapping):
        return (), dict(x)
    return (tuple(x) if isinstance(x, (tuple, list)) else (x,)), {}
