"""Which batches a rank works on, where several measure together."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from lla.batches import Batch, Batches, NoBatchError, mapped
from lla.errors import InputError
from lla.ranks import Ranks


@dataclass(frozen=True)
class Division:
    """The places of the batches of this rank among those of all.

    Attributes:
        indices: of its own batches; empty where it has none.
        whole: whether every rank was given all of the batches.
        count: batches of all ranks.
        examples: of all ranks.
    """

    indices: tuple[int, ...]
    whole: bool
    count: int
    examples: int

    @property
    def idle(self) -> bool:
        """Whether this rank has no batch of its own."""
        return not self.indices

    @classmethod
    def of(cls, batches: Batches) -> Division:
        """That of a process that has all batches."""
        return cls(tuple(range(len(batches))), True, len(batches), batches.examples)

    def own(self, values: Sequence[float]) -> Sequence[float]:
        """What belongs to the batches of this rank, of one number for each batch given to it."""
        return [values[i] for i in self.indices] if self.whole else values


def divided(
    source: Any, device: torch.device, ranks: Ranks, whole: bool
) -> tuple[Batches, Division]:
    """The batches that a rank works on, and their places among those of all.

    Ranks that are given the same batches share them out, one after another. Ranks that are given
    different ones, as a loader with a `DistributedSampler` has them, each keep theirs.

    Args:
        source: see `lla.batches.Batches`; empty where a rank has nothing to do.
        device: of the model.
        ranks: that measure together.
        whole: see `lla.batches.Batches`.

    Returns:
        A rank that has no batch of its own gets one of another, which is to count for nothing.

    Raises:
        InputError: see `Batches`; no rank has a batch.
    """
    if ranks.count == 1:
        given = Batches(source, device, whole)
        return given, Division.of(given)
    batches: Batches | None = None
    with ranks.agreed():
        with suppress(NoBatchError):
            batches = Batches(source, device, whole)
        hashes = [] if batches is None else batches.hashes()
    all_hashes = ranks.gathered(hashes)
    same = all(other == hashes for other in all_hashes)
    if same and batches is not None:
        count, examples = len(batches), batches.examples
        indices = range(ranks.rank, count, ranks.count)
        part = batches.every(ranks.rank, ranks.count) if indices else batches.every(0, count)
        return part, Division(tuple(indices), True, count, examples)
    lengths = [len(other) for other in all_hashes]
    if not any(lengths):
        raise InputError("no process has a batch: give a pair (x, y), a list of them or a loader")
    examples = sum(ranks.gathered(0 if batches is None else batches.examples))
    before = sum(lengths[: ranks.rank])
    if not all(lengths):
        lent = _lent(batches, lengths.index(max(lengths)), ranks, device)
        batches = Batches([lent], device, whole) if batches is None else batches
    assert batches is not None
    indices = range(before, before + lengths[ranks.rank])
    return batches, Division(tuple(indices), False, sum(lengths), examples)


def _lent(batches: Batches | None, owner: int, ranks: Ranks, device: torch.device) -> Batch:
    """The first batch of one rank, for those that have none."""
    held: Any = None
    if ranks.rank == owner:
        assert batches is not None
        first = next(iter(batches))
        held = (mapped((first.x, first.y), lambda t: t.detach().cpu()), first.size)
    pair, size = ranks.of(owner, held)
    x, y = mapped(pair, lambda t: t.to(device))
    return Batch(x, y, size)
