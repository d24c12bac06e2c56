"""What a record says of the code and the machine, and how much memory a cell took."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path
from typing import Any

import psutil
import torch

import lla
from lla.files import sha256_of_parts


@functools.cache
def code_version() -> str:
    """The version of lla and the first 12 digits of a sha256 over its source files.

    The digest names the code that ran, also when it was edited after its last commit.
    """
    root = Path(lla.__file__).parent
    digest = sha256_of_parts(
        file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes()
        for file in sorted(root.rglob("*.py"))
    )
    return f"{lla.__version__}+{digest[:12]}"


def environment(device: str | torch.device = "cpu") -> dict[str, Any]:
    """What a record says of the software and the device.

    Args:
        device: where the cell is computed.

    Returns:
        The fields `code_version`, `torch`, `threads`, `device` and `cpu` of a record.
    """
    device = torch.device(device)
    name = device.type
    if device.type == "cuda":
        name = f"cuda ({torch.cuda.get_device_name(device)})"
    return {
        "code_version": code_version(),
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "device": name,
        "cpu": cpu_kind(),
    }


def cpu_kind() -> str:
    """The kind of processor: the widest vectors that torch uses on it, and how many cores.

    Seconds, and also ratios of seconds, are compared between machines of one kind alone.
    """
    return f"{torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores"


def reset_peak_memory(device: str | torch.device = "cpu") -> None:
    """Start a new measurement of `peak_memory`, where the system lets a process do so.

    Linux does for a process, CUDA for a device; elsewhere the peak of the whole run remains.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # not Linux, or not allowed in this container
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: str | torch.device = "cpu") -> int:
    """The most memory held since `reset_peak_memory`, or since the start.

    Args:
        device: on CUDA, what torch allocated there; else the resident memory of this process.

    Returns:
        Bytes.
    """
    if torch.device(device).type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        info = psutil.Process().memory_info()
        return int(getattr(info, "peak_wset", info.rss))
