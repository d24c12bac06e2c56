"""The batches that a loss is averaged over: one type for all forms of input, checked once."""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from lla.errors import InputError
from lla.random_states import RandomStates, loader_generators

_MOST = 10_000  # batches of a source that does not say how many it has
_LABELS = ("labels", "label", "targets", "target")  # keys of a mapping that may hold the targets


class NoBatchError(InputError):
    """There is no batch at all."""


class Batch(NamedTuple):
    """One batch: the model's input, the loss's targets, and the number of examples."""

    x: Any  # tensor [n, ...], or a tuple (positional) or mapping (keyword) of the model's inputs
    y: Any  # targets, [n, ...]
    size: int  # n


class Batches:
    """A sequence of batches that can be read any number of times.

    Args:
        source: one element, a sequence of elements, or a re-iterable loader of elements. An
            element is a pair (x, y), or a mapping of the model's keyword arguments: then x is a
            dict of all of it, and y its "labels" (or "label", "targets" or "target"; None without
            any of them). A `Batch` is taken as it is.
        device: of the model; every tensor must be there.
        whole: an element is anything that holds a tensor, for a loss of (model, batch). x is then
            the element as it was given, y is None, and the number of examples is the length of the
            first tensor with a row. A bare tensor, a bare pair and a bare mapping are one batch.

    A loader is read twice here and has to give the same bytes both times. With shuffling or random
    augmentation the loss would not be a function of the parameters.

    Reading a loader changes no random state: neither Python's, NumPy's or torch's global one, nor
    that of the loader's own generators. Every pass starts from the states that were found here,
    and goes on from its own, whatever is drawn between two batches.

    Raises:
        InputError: no batch, an empty batch, a one-shot iterator, an endless loader, an element of
            another kind, a tensor on another device, or different data on the second pass.
    """

    def __init__(self, source: Any, device: torch.device, whole: bool = False) -> None:
        self.device = device
        self.whole = whole
        elements = _elements(source, whole)
        if isinstance(elements, tuple):
            self._source: Iterable[Any] = elements
            found = self._inspect_all(elements)
        else:
            states = RandomStates(device, loader_generators(elements))
            # kept around both passes: with the same states in each, shuffling would not be noticed
            with states.kept():
                self._source = _Undisturbed(elements, states, states.read())
                found = self._inspect_all(elements)
                _check_same(found, self._inspect_all(elements))
        if not found:
            raise NoBatchError("there is no batch: give a pair (x, y), a list of them or a loader")
        self.sizes: tuple[int, ...] = tuple(size for size, _ in found)

    @property
    def in_memory(self) -> bool:
        """Whether all batches are in memory, so that reading them costs nothing."""
        return isinstance(self._source, tuple)

    @property
    def examples(self) -> int:
        """Number of examples in all batches."""
        return sum(self.sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[Batch]:
        for index, (element, size) in enumerate(zip(self._source, self.sizes, strict=True)):
            yield Batch(*_parted(element, index, self.whole), size)

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

    def every(self, start: int, step: int) -> Batches:
        """The batches start, start + step, start + 2 step, ...; there may be none."""
        some = copy.copy(self)
        source = _Every(self, start, step)
        some._source = tuple(source) if self.in_memory else source
        some.sizes = self.sizes[start::step]
        return some

    def hashes(self) -> list[bytes]:
        """A hash of each batch: of its tensors and their places in it."""
        found = []
        for batch in self:
            hasher = hashlib.blake2b(str(pytree.tree_structure((batch.x, batch.y))).encode())
            _hash_leaves(hasher, batch)
            found.append(hasher.digest())
        return found

    def _inspect_all(self, elements: Iterable[Any]) -> list[tuple[int, bytes]]:
        """What `_inspect` says of each element, in one pass."""
        digest = not isinstance(elements, tuple)
        most = _most(elements)
        found = []
        for index, element in enumerate(elements):
            if index == most:
                raise InputError(
                    f"the loader gave {most} batches and goes on, so it seems endless: give "
                    "list(itertools.islice(loader, n)) for its first n batches"
                )
            found.append(self._inspect(index, element, digest))
        return found

    def _inspect(self, index: int, element: Any, digest: bool) -> tuple[int, bytes]:
        """Check one element of the source; its number of examples and a digest of its bytes."""
        x, y = _parted(element, index, self.whole)
        size = element.size if isinstance(element, Batch) else _size(x, index, self.whole)
        hasher = hashlib.blake2b(digest_size=16)
        for leaf in leaves((x, y)):
            # the batch sizes of a packed sequence are on the CPU always
            held = leaf.data if isinstance(leaf, PackedSequence) else leaf
            if held.device != self.device:
                raise InputError(
                    f"the model is on {self.device} and batch {index} on {held.device}: move "
                    "one of them with .to(device)"
                )
        if digest:
            _hash_leaves(hasher, (x, y))
        return size, hasher.digest()


def _hash_leaves(hasher: Any, value: Any) -> None:
    """Add type, shape and bytes of all tensors of a nested value to a hash."""
    for leaf in leaves(value):
        for tensor in pytree.tree_leaves(leaf):
            if tensor is not None:  # the indices of a packed sequence that was sorted
                hasher.update(str((tensor.dtype, tuple(tensor.shape))).encode())
                hasher.update(raw_bytes(tensor))


@dataclass(frozen=True)
class _Every:
    """Some of the batches, again on every pass."""

    batches: Batches
    start: int
    step: int

    def __iter__(self) -> Iterator[Batch]:
        return itertools.islice(iter(self.batches), self.start, None, self.step)


@dataclass(frozen=True)
class _Split:
    """Batches split into micro-batches, again on every pass."""

    batches: Batches
    size: int

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.batches:
            yield from micro_batches(batch, self.size)


@dataclass(frozen=True)
class _Undisturbed:
    """The elements of a loader, which draws from random states that nobody else sees."""

    loader: Iterable[Any]
    states: RandomStates
    start: tuple[Any, ...]  # of every pass

    def __iter__(self) -> Iterator[Any]:
        iterator: Iterator[Any] | None = None
        own = self.start
        while True:
            with self.states.kept():
                self.states.write(own)
                if iterator is None:
                    iterator = iter(self.loader)
                try:
                    element = next(iterator)
                except StopIteration:
                    return
                own = self.states.read()
            yield element


def _check_same(first: list[tuple[int, bytes]], again: list[tuple[int, bytes]]) -> None:
    """Raise unless two passes over a loader gave the same."""
    if again != first:
        where = next(
            (i for i, (a, b) in enumerate(zip(first, again, strict=False)) if a != b),
            min(len(first), len(again)),
        )
        raise InputError(
            f"the loader gives different data on each pass (first at batch {where}), so "
            "the loss is not a function of the parameters: use shuffle=False and no random "
            "augmentation, or pass list(loader)"
        )


def micro_batches(batch: Batch, size: int | None) -> list[Batch]:
    """A batch in parts of at most `size` examples; None gives the whole batch.

    Every tensor is split along dimension 0 without a copy, also in tuples and mappings. Anything
    else goes with every part.

    Raises:
        InputError: a tensor does not have one row an example, or there is a `PackedSequence`.
    """
    if size is None or size >= batch.size:
        return [batch]
    for leaf in leaves((batch.x, batch.y)):
        if isinstance(leaf, PackedSequence):
            raise InputError(
                f"a PackedSequence of {batch.size} sequences cannot be split: leave micro_batch out"
            )
        if leaf.ndim == 0 or len(leaf) != batch.size:
            raise InputError(
                f"a tensor {tuple(leaf.shape)} of a batch of {batch.size} examples does not have "
                "one row an example, so it cannot be split: leave micro_batch out"
            )
    parts = []
    for start in range(0, batch.size, size):
        x, y = rows((batch.x, batch.y), start, start + size)
        parts.append(Batch(x, y, min(size, batch.size - start)))
    return parts


def rows(value: Any, start: int, stop: int) -> Any:
    """The same nested value with the rows start..stop of every tensor, as views."""
    return mapped(value, lambda tensor: tensor[start:stop])


def cloned(value: Any) -> Any:
    """The same nested value with a copy of every tensor.

    A network may work in place on its input, and a loader may refill its tensors.
    """
    return mapped(value, Tensor.clone)


def model_arguments(x: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of the model's call on the input of a batch.

    A mapping gives keyword arguments, a tuple or list positional ones; anything else, also a
    `PackedSequence`, is the one argument.

    >>> model_arguments({"x": torch.ones(2)})
    ((), {'x': tensor([1., 1.])})
    """
    if isinstance(x, Mapping):
        return (), dict(x)
    positional = isinstance(x, (tuple, list)) and not isinstance(x, PackedSequence)
    return (tuple(x) if positional else (x,)), {}


def _elements(source: Any, whole: bool) -> Iterable[Any]:
    """A tuple of elements, or the loader itself."""
    if isinstance(source, (Mapping, Batch)) or (
        whole and isinstance(source, (Tensor, PackedSequence))
    ):
        return (source,)
    if isinstance(source, Sequence) and len(source) == 2 and _is_pair(source):
        return (source,)
    if isinstance(source, (list, tuple)):
        return tuple(source)
    if isinstance(source, Iterator):
        raise InputError(
            f"batches is a one-shot {type(source).__name__}, and every product reads the data "
            "again: give list(batches) if it ends, or a loader"
        )
    if not isinstance(source, Iterable):
        raise InputError(
            f"batches is {type(source).__name__}: give a pair (x, y), a list of pairs or a loader"
        )
    return source


def _is_pair(source: Sequence[Any]) -> bool:
    """Whether a sequence of two is one pair (x, y) and not a sequence of two batches."""
    x, y = source
    if isinstance(x, (Tensor, PackedSequence)):
        return True
    if isinstance(x, Mapping) and isinstance(y, Mapping) and set(x) == set(y):
        return False
    return isinstance(source, tuple) and (isinstance(x, Mapping) or isinstance(y, Tensor))


def _parted(element: Any, index: int, whole: bool) -> tuple[Any, Any]:
    """The input and the targets of one element of a source."""
    if isinstance(element, Batch):
        return element.x, element.y
    if whole:
        return element, None
    if isinstance(element, Mapping):
        named = (element[name] for name in _LABELS if name in element)
        return dict(element), next((value for value in named if value is not None), None)
    pair = isinstance(element, Sequence) and not isinstance(element, (str, PackedSequence))
    if not pair or len(element) != 2:
        count = f" of {len(element)}" if pair else ""
        raise InputError(
            f"batch {index} is {type(element).__name__}{count}, not a pair (x, y) and not a "
            "mapping: wrap the loader so that it gives the model's input and the loss's target"
        )
    return element[0], element[1]


def _size(x: Any, index: int, whole: bool) -> int:
    """The number of examples of an input: its first tensor's rows, or packed sequence's sequences.

    With `whole`, tensors without rows are passed over.
    """
    lengths = [_length(leaf) for leaf in leaves(x)]
    if not lengths:
        raise InputError(
            f"the input of batch {index} is {type(x).__name__} and holds no tensor: convert it "
            "with torch.as_tensor"
        )
    size = next(filter(None, lengths), 0) if whole else lengths[0]
    if size == 0:
        raise InputError(f"batch {index} holds no example: leave it out")
    return size


def _length(leaf: Tensor | PackedSequence) -> int:
    """The number of rows of a tensor, or of sequences of a packed sequence."""
    if isinstance(leaf, PackedSequence):
        return int(leaf.batch_sizes[0])
    return len(leaf) if leaf.ndim else 0


def _most(source: Iterable[Any]) -> int:
    """The number of batches after which a source counts as endless."""
    try:
        return max(len(source), _MOST)  # type: ignore[arg-type]
    except TypeError:
        return _MOST


def leaves(value: Any) -> Iterator[Any]:
    """All tensors and packed sequences in nested tuples, lists and mappings."""
    for leaf in pytree.tree_leaves(value, is_leaf=_is_packed):
        if isinstance(leaf, (Tensor, PackedSequence)):
            yield leaf
        elif isinstance(leaf, Mapping):  # one that is no dict, such as BatchEncoding
            for item in leaf.values():
                yield from leaves(item)
        elif isinstance(leaf, (list, tuple)):  # a subclass
            for item in leaf:
                yield from leaves(item)


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same nested value with every tensor changed, also in a `PackedSequence`."""

    def leaf(each: Any) -> Any:
        if isinstance(each, Tensor):
            return change(each)
        if isinstance(each, PackedSequence):
            data, sizes, *order = each
            parts: list[Any] = [None if part is None else change(part) for part in order]
            return PackedSequence(change(data), sizes.clone(), *parts)  # these stay on the CPU
        if isinstance(each, MutableMapping):  # one that is no dict keeps its type
            changed = copy.copy(each)
            for key, item in each.items():
                changed[key] = mapped(item, change)
            return changed
        if isinstance(each, Mapping):
            return {key: mapped(item, change) for key, item in each.items()}
        if isinstance(each, (list, tuple)):  # a subclass
            return type(each)(mapped(item, change) for item in each)
        return each

    return pytree.tree_map(leaf, value, is_leaf=_is_packed)


def _is_packed(value: Any) -> bool:
    return isinstance(value, PackedSequence)


def raw_bytes(tensor: Tensor) -> bytes:
    """The values of a tensor as raw bytes."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
