"""Commands under torchrun: several processes measure together, and the first one writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as distributed

from lla.errors import InputError, first_line
from lla.ranks import launched


def is_first() -> bool:
    """Whether this process shows and writes results: the only one, or the first of torchrun's."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Join the processes that torchrun has started, if it has, for the time of a command.

    Args:
        device: of the work; each process takes a CUDA device of its own.

    Raises:
        InputError: there is no such device, this PyTorch has no backend for it, or the processes do
            not find each other.
    """
    if launched() == 1 or distributed.is_initialized():
        yield
        return
    cuda, own = device.startswith("cuda"), int(os.environ.get("LOCAL_RANK", "0"))
    if cuda and not (torch.cuda.device_count() > own and distributed.is_nccl_available()):
        raise InputError(
            f"process {own} of this machine has no CUDA device with NCCL: start fewer processes, "
            "or take --device cpu"
        )
    if cuda:
        torch.cuda.set_device(own)
    try:
        # objects are exchanged on the CPU
        distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"the processes cannot be joined ({first_line(error)}): start them by torchrun"
        ) from error
    try:
        yield
        # who ends first would take the connections away from who still writes
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
