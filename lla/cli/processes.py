"""Commands under torchrun: several processes measure together, and the first one writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as distributed


def is_first() -> bool:
    """Whether this process shows and writes results: the only one, or the first of torchrun's."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Join the processes that torchrun has started, if it has, for the time of a command.

    Args:
        device: of the work; each process takes a CUDA device of its own.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or distributed.is_initialized():
        yield
        return
    cuda = device.startswith("cuda")
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    # objects are exchanged on the CPU
    distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()
