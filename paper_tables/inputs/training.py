"""How the suites train networks: by Adam, with checkpoints in the work folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lla import training
from paper_tables.engine.cells import Settings
from paper_tables.engine.records import config_hash

SEED = 0  # of initialisation and order of training
LR = 1e-3
BATCH_SIZE = 128  # the paper does not state its own


def config(**more: Any) -> dict[str, Any]:
    """The settings of a training: the common ones, and all else that determines the weights."""
    return {
        "optimizer": "adam",
        "lr": LR,
        "batch_size": BATCH_SIZE,
        "seed": SEED,
        "init": "torch",
        "init_seed": SEED,
        **more,
    }


def checkpoint(settings: Settings, name: str, config: dict[str, Any]) -> Path:
    """The file from which an interrupted training continues and a finished one is read.

    A training continues only on the kind of device on which it began.
    """
    key = config_hash({**config, "device": settings.device.partition(":")[0]})
    return settings.work / "weights" / f"{name}-{key}.pt"


def train(
    settings: Settings,
    model: nn.Module,
    pair: tuple[Tensor, Tensor],
    path: Path,
    epochs: int,
    **options: Any,
) -> training.TrainingResult:
    """Train a network in place.

    Args:
        settings: of the session.
        model: the network, as it is initialised.
        pair: all inputs and labels.
        path: see `checkpoint`.
        epochs: the most.
        options: of `lla.training.train`, in place of those above.
    """
    usual = {"batch_size": BATCH_SIZE, "lr": LR, "seed": SEED}
    return training.train(model, pair, epochs=epochs, checkpoint=path, **{**usual, **options})


def outcome(result: training.TrainingResult) -> str:
    """The outcome of a training, in words."""
    return f"{result.epochs} epochs, training accuracy {100 * result.accuracy[-1]:.2f} %"
