"""The precision that second derivatives need, and how far rounding may go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from lla.errors import InputError

# relative difference that rounding may leave between two ways to compute one quantity
ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-10}


def refuse_autocast(device: torch.device) -> None:
    """Raise if torch.autocast is on, which would compute in half precision."""
    if torch.is_autocast_enabled(device.type):
        raise InputError(
            "torch.autocast is on, which is too imprecise for second derivatives: call outside of "
            "it"
        )


class ShortTypes(TorchDispatchMode):
    """Looks for an operation whose result has a floating type that is too short.

    Args:
        least: bytes of the shortest type that is long enough.

    Attributes:
        found: the first such operation and its type, in words; None without any.
    """

    def __init__(self, least: int) -> None:
        super().__init__()
        self._least = least
        self.found: str | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.found is None:
            for leaf in pytree.tree_leaves(out):
                floating = isinstance(leaf, Tensor) and leaf.is_floating_point()
                if floating and leaf.itemsize < self._least:
                    self.found = f"{func.overloadpacket} in {leaf.dtype}"
        return out


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute float32 as float32: by default CUDA convolutions round their inputs to TF32."""
    if device.type != "cuda":
        yield
        return
    cudnn, matmul = torch.backends.cudnn, torch.get_float32_matmul_precision()
    kept = {name: getattr(cudnn, name) for name in ("enabled", "benchmark", "deterministic")}
    torch.set_float32_matmul_precision("highest")
    try:
        with cudnn.flags(**kept, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)
