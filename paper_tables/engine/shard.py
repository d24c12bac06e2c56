"""Which cells a worker computes, and in which order, where several compute the cells together."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from lla.errors import InputError

T = TypeVar("T")

LEAST = 1.0  # seconds that a cell counts at least: to look it up takes time too


@dataclass(frozen=True)
class Shard:
    """One of several workers.

    Attributes:
        index: which one, from 1.
        count: how many there are.
    """

    index: int
    count: int

    @classmethod
    def of(cls, text: str) -> Shard:
        """From the words of a command line.

        Raises:
            InputError: it is not i/n with 1 <= i <= n.

        >>> Shard.of("2/4")
        Shard(index=2, count=4)
        """
        found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text)
        index, count = map(int, found.groups()) if found else (0, 0)
        if not 1 <= index <= count:
            raise InputError(f"--shard {text}: give i/n, worker i of n, such as 1/4 to 4/4")
        return cls(index, count)

    def ordered(self, items: Sequence[T], seconds: Callable[[T], float]) -> list[T]:
        """All items in the order in which this worker turns to them.

        Each worker has a part of the sequence that takes about as long as any other's, so that
        neighbours, which share what they load, stay together. It begins with its own. Then it
        helps the next worker, and so on, each from the end, where that one comes last.

        Args:
            items: the same ones, in the same order, for all workers.
            seconds: how long one takes.

        >>> Shard(2, 3).ordered("abcdef", lambda item: 1)
        ['c', 'd', 'f', 'e', 'b', 'a']
        """
        parts: list[list[T]] = [[] for _ in range(self.count)]
        costs = [max(LEAST, seconds(item)) for item in items]
        total, before = sum(costs), 0.0
        for item, cost in zip(items, costs, strict=True):
            middle = (before + cost / 2) / total  # in (0, 1)
            parts[int(middle * self.count)].append(item)
            before += cost
        own, *others = parts[self.index - 1 :] + parts[: self.index - 1]
        return own + [item for part in others for item in reversed(part)]
