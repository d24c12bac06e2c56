"""The state of a training run in checkpoint files: how it is kept, and how a run is resumed."""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lla import files
from lla.checkpoints import read_checkpoint, write_checkpoint
from lla.errors import InputError
from lla.tensor_hashes import tensors_sha256, weights_sha256


@dataclass
class Progress:
    """What a run has done so far, as its checkpoints hold it beside weights and moments."""

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def epochs(self) -> int:
        """Epochs done."""
        return len(self.loss)


def kept_checkpoint(checkpoint: str | os.PathLike[str], epoch: int) -> Path:
    """The file in which `train` keeps the state after one of `keep_epochs`.

    `lla.models.load_weights` can read it.

    Args:
        checkpoint: As given to `train`.
        epoch: 0 is before the first.

    Returns:
        A path in the same folder.

    Example:
        >>> kept_checkpoint("runs/lenet.pt", 5).as_posix()
        'runs/lenet-epoch0005.pt'
    """
    path = Path(checkpoint)
    return path.with_name(f"{path.stem}-epoch{epoch:04d}{path.suffix}")


@contextmanager
def locked(path: Path | None) -> Iterator[None]:
    """Let one run at a time use a checkpoint; the lock ends with the process, even a killed one."""
    if path is None:
        yield
        return
    files.check_folder(path.parent)  # before an epoch is trained, not after it
    with files.locked(path.with_name(f".{path.name}.lock")):
        yield


def configuration(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    batch_size: int,
    lr: float,
    weight_decay: float,
    seed: int,
) -> dict[str, Any]:
    """What must be equal for a run to continue another one."""
    decay = {"weight_decay": weight_decay} if weight_decay else {}  # older files have no entry
    return {
        "optimizer": "adam",
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "device": x.device.type,
        "dtypes": sorted({str(value.dtype) for value in model.parameters()}),
        "frozen": [name for name, value in model.named_parameters() if not value.requires_grad],
        "data_sha256": tensors_sha256([("x", x), ("y", y)]),
        "initial_weights_sha256": weights_sha256(model),
        **decay,
    }


@dataclass
class Run:
    """What the checkpoints of a run are written from and loaded into."""

    path: Path
    model: nn.Module
    optimizer: torch.optim.Optimizer
    config: dict[str, Any]  # see `configuration`
    keep_epochs: Collection[int]


def save(run: Run, done: Progress) -> None:
    """Write the state of a run after an epoch, and keep a copy after some epochs."""
    content = {
        "epoch": done.epochs,
        **vars(done),
        "config": run.config,
        "state_dict": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
    }
    # The kept one first: a run that is interrupted between the two repeats the epoch.
    if done.epochs in run.keep_epochs:
        write_checkpoint(kept_checkpoint(run.path, done.epochs), content)
    if done.epochs > 0:
        write_checkpoint(run.path, content)


def start_or_resume(run: Run, epochs: int) -> Progress:
    """Begin a run, or load the state of an earlier one into the model and the optimiser.

    Returns:
        What is done.

    Raises:
        InputError: the checkpoint is of another run, has more epochs, or lacks one to be kept.
    """
    path, config = run.path, run.config
    if not path.exists():
        done = Progress()
        save(run, done)
        return done
    content = read_checkpoint(path, run.model)
    done = Progress(content["loss"], content["accuracy"], content["seconds"])
    stored = content["config"]
    # A model with the weights of this checkpoint may continue as well.
    if config["initial_weights_sha256"] == tensors_sha256(content["state_dict"].items()):
        config["initial_weights_sha256"] = stored["initial_weights_sha256"]
    differing = [
        f"{key} is {stored.get(key)} there and {value} here"
        for key, value in config.items()
        if stored.get(key) != value
    ]
    if differing:
        raise InputError(
            f"{path} is the checkpoint of another run ({'; '.join(differing)}): give the same "
            "arguments, another path, or delete it."
        )
    if done.epochs > epochs:
        raise InputError(
            f"{path} has {done.epochs} epochs already: ask for at least as many as that, not "
            f"{epochs}, or give another path."
        )
    for epoch in run.keep_epochs:
        if epoch <= done.epochs and not kept_checkpoint(path, epoch).exists():
            raise InputError(
                f"{path} is past epoch {epoch}, which was not kept: delete it to train again."
            )
    run.model.load_state_dict(content["state_dict"])
    run.optimizer.load_state_dict(content["optimizer"])
    return done
