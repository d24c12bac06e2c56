"""Which process measures where several train one model, and which models it cannot measure."""

from __future__ import annotations

import torch.distributed as distributed
from torch import nn

from lla.errors import InputError
from lla.model_call import Mode


def is_main() -> bool:
    """Whether this is the only process of the training, or the first of several."""
    return _processes() == 1 or distributed.get_rank() == 0


def check_measurable(model: nn.Module, mode: Mode) -> None:
    """Raise unless one process alone can evaluate the model.

    Raises:
        InputError: BatchNorm takes its statistics from all processes.
    """
    if _processes() == 1:
        return
    names = {base.__name__ for module in model.modules() for base in type(module).__mro__}
    if mode == "train" and "SyncBatchNorm" in names:
        raise InputError(
            "SyncBatchNorm in train mode waits for the other processes, and one process measures: "
            "take mode='eval'"
        )


def _processes() -> int:
    """How many processes train together."""
    there = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if there else 1
