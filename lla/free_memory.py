"""How much memory can still be taken."""

from __future__ import annotations

import math
from pathlib import Path

import psutil
import torch

from lla.errors import InsufficientMemoryError


def available_memory(device: torch.device) -> int:
    """Bytes that this process can still take on a device, within its control group."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    return int(min(psutil.virtual_memory().available, _left_in_group(_GROUP)))


def check_fits(needed: int, device: torch.device, what: str, advice: str) -> None:
    """Check that something fits before it is made.

    Args:
        needed: bytes.
        device: where it will be.
        what: it is, in the plural: "the factors of conv1".
        advice: what to do where it does not fit.

    Raises:
        InsufficientMemoryError: it does not fit.
    """
    if needed > available_memory(device):
        raise InsufficientMemoryError(
            f"{what} take {needed / 2**30:.1f} GiB, more than is free: {advice}"
        )


_GROUP = Path("/sys/fs/cgroup")  # of a container, on Linux


def _left_in_group(group: Path) -> float:
    """Bytes that a control group (version 2) may still take; infinite without a limit."""
    try:
        limit, used, parts = (
            (group / f"memory.{name}").read_text().strip() for name in ("max", "current", "stat")
        )
    except OSError:  # another system, or no such group
        return math.inf
    if limit == "max":
        return math.inf
    # cached files count as used, but are dropped when memory is needed
    cached = int(parts.partition("inactive_file ")[2].split()[0])
    return max(0, int(limit) - int(used) + cached)
