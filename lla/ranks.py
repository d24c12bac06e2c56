"""Several processes that measure one network together, joined by torch.distributed.

Each process, or rank, calls the same functions with the same arguments, as programs started by
`torchrun` do, and holds some of the batches. Quantities of all batches are sums over ranks: each
rank computes its part, and one reduction puts them together, so that all go on with the same
numbers. An error on one rank is raised on all of them. A rank that ends, or that calls something
else, ends the others with an error.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as distributed
from torch import Tensor

from lla.errors import LIBRARY_ERRORS, InputError, RankError, first_line, out_of_memory

T = TypeVar("T")

PATIENCE = 60  # seconds that the first to call waits for the others
_here = threading.local()


@dataclass(frozen=True)
class Ranks:
    """The processes that measure together: a single one, or those of the default group.

    Attributes:
        rank: number of this one, from 0.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    def meet(self) -> None:
        """Wait until all ranks are here, which they are if all call the same functions.

        Raises:
            RankError: one does not come within `PATIENCE` seconds, or has ended.

        Warns:
            UserWarning: torchrun has started several processes, and no group joins them.
        """
        if self.count == 1:
            _warn_if_apart()
        elif distributed.get_backend() == "gloo":
            with _answered():
                distributed.monitored_barrier(timeout=timedelta(seconds=PATIENCE))

    def gathered(self, value: T) -> list[T]:
        """The value of each rank, in their order; anything that can be pickled."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        with _answered():
            distributed.all_gather_object(found, value)
        return found

    def of(self, rank: int, value: T) -> T:
        """The value of one rank; anything that can be pickled."""
        if self.count == 1:
            return value
        held = [value if self.rank == rank else None]
        with _answered():
            distributed.broadcast_object_list(held, src=rank)
        found: Any = held[0]
        return found

    def total(self, compute: Callable[[], Tensor], like: Tensor) -> Tensor:
        """The sum over ranks of what each computes, by one reduction.

        Args:
            compute: gives this rank's part, of the shape of `like`.
            like: gives shape, type and device where `compute` fails.

        Raises:
            Exception: `compute` failed on a rank; all raise its error, see `agreed`.
        """
        if self.count == 1:
            return compute()
        error: Exception | None = None
        packed = like.new_zeros(like.numel() + 1)  # the last one counts failures
        try:
            packed[:-1] = compute().reshape(-1)
        except Exception as found:
            error = found
            packed[-1] = 1
        with _answered():
            distributed.all_reduce(packed)
        if packed[-1] > 0:
            self._raise(error)
        return packed[:-1].view_as(like)

    def share(self, size: int) -> slice:
        """Which of `size` numbers this rank holds where they are split over ranks."""
        each = -(-size // self.count)
        return slice(min(self.rank * each, size), min((self.rank + 1) * each, size))

    def summed(self, values: Tensor) -> Tensor:
        """The sum over ranks of tensors that cannot fail."""
        values = values.contiguous()
        if self.count > 1:
            with _answered():
                distributed.all_reduce(values)
        return values

    def joined(self, part: Tensor, size: int) -> Tensor:
        """Vectors [K, size] of which each rank has its `share`, all of them on every rank."""
        if self.count == 1:
            return part
        each = -(-size // self.count)
        padded = part.new_zeros(len(part), each)
        padded[:, : part.shape[1]] = part
        parts = [torch.empty_like(padded) for _ in range(self.count)]
        with _answered():
            distributed.all_gather(parts, padded)
        return torch.cat(parts, 1)[:, :size]

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """Run a block in which ranks do not meet; an error on one is raised on all.

        Raises:
            Exception: the error of this rank, else one of the same kind and words as that of the
                first rank that has one.
        """
        if self.count == 1:
            yield
            return
        error: Exception | None = None
        try:
            yield
        except Exception as found:
            error = found
        self._raise(error)

    def _raise(self, error: Exception | None) -> None:
        """Raise the error of this rank, or else that of another; nothing if there is none."""
        try:
            found = self.gathered(None if error is None else (_kind(error), str(error)))
        except RankError:
            if error is None:
                raise
        if error is not None:
            raise error
        for rank, other in enumerate(found):
            if other is not None:
                kind, text = other
                raise kind(text if kind is not RankError else f"rank {rank} failed: {text}")

    def same(self, facts: Mapping[str, str]) -> None:
        """Check that all ranks are given the same.

        Args:
            facts: by name, in words or as a hash.

        Raises:
            InputError: a fact differs; it is named with the two ranks.
        """
        if self.count == 1:
            return
        others = self.gathered(dict(facts))
        for rank, theirs in enumerate(others):
            for name, value in others[0].items():
                if theirs.get(name) != value:
                    raise InputError(
                        f"{name} is {value} on rank 0 and {theirs.get(name)} on rank {rank}: all "
                        "processes must measure the same network in the same way"
                    )


ALONE = Ranks()


def present() -> Ranks:
    """The ranks of the default group, or one alone without a group or within `alone`."""
    started = distributed.is_available() and distributed.is_initialized()
    if not started or getattr(_here, "alone", False):
        return ALONE
    return Ranks(distributed.get_rank(), distributed.get_world_size())


def launched() -> int:
    """How many processes a launcher such as torchrun has started together; one without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _warn_if_apart() -> None:
    """Say that each process measures by itself, where that may not be what is meant."""
    count = launched()
    apart = count > 1 and distributed.is_available() and distributed.is_torchelastic_launched()
    if apart and not distributed.is_initialized() and not getattr(_here, "alone", False):
        warnings.warn(
            f"torchrun has started {count} processes, and each measures alone what it is given: "
            "call torch.distributed.init_process_group before, or `lla.alone()` if it is meant so",
            stacklevel=4,
        )


@contextmanager
def alone() -> Iterator[None]:
    """Measure in this process alone, whatever the others of its group do.

    Without it, every process of a group has to make the same calls. A training with several
    processes that measures in one of them, for example, does so within this block.

    >>> with alone():
    ...     present().count
    1
    """
    before = getattr(_here, "alone", False)
    _here.alone = True
    try:
        yield
    finally:
        _here.alone = before


def _kind(error: Exception) -> type[Exception]:
    """The class of an error that another rank can make from its words."""
    if isinstance(error, LIBRARY_ERRORS):
        return type(error)
    return torch.OutOfMemoryError if out_of_memory(error) else RankError


@contextmanager
def _answered() -> Iterator[None]:
    """Make one sentence of what torch says if another process does not answer."""
    try:
        yield
    except RuntimeError as error:
        raise RankError(
            f"another process has ended or does not answer ({first_line(error)}): call lla in all "
            "processes alike, or within `lla.alone()` in one of them"
        ) from error
