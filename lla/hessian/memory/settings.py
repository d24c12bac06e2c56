"""What a caller says about memory: how much to take, and how the Lanczos vectors are stored."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Memory:
    """Limits on memory, for the `memory` argument of `lla.criteria` and its like.

    >>> Memory(8 * 2**30, basis_dtype=torch.bfloat16).bytes // 2**30
    8
    """

    bytes: int | None = None  # to take on the model's device; None: what is available
    basis_dtype: torch.dtype | None = None  # of the stored Lanczos vectors; None: the parameters'
    basis_device: torch.device | str | None = None  # that stores them; None: the parameters'


def memory_settings(memory: Memory | int | None) -> Memory:
    """The settings of a `memory` argument; a number means bytes."""
    return memory if isinstance(memory, Memory) else Memory(memory)
