"""How many examples are worked on at a time, so that what is made of them fits into memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from lla.free_memory import available_memory

_MOST = 2**28  # bytes; more at a time is not faster


def byte_budget(device: torch.device) -> int:
    """Bytes that arrays made from a group of examples or classes may take."""
    return min(_MOST, available_memory(device) // 8)


def parts(n: int, elements: int, device: torch.device) -> Iterator[slice]:
    """Parts of n examples, of each of which `elements` numbers in float64 are held.

    >>> [part.stop - part.start for part in parts(5, 2**24, torch.device("cpu"))]
    [2, 2, 1]
    """
    size = max(1, byte_budget(device) // (8 * max(1, elements)))
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
