"""Training runs of section 4: a network trained on one set of a pair, kept at chosen epochs.

A run is trained once and keeps a checkpoint of every epoch that is measured. Everything is measured
from these files, so that no measurement can disturb the training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from lla import data, models
from lla.errors import MissingDataError
from lla.training import TrainingResult, kept_checkpoint, weights_sha256
from paper_tables.engine.cells import Settings, SharedStep
from paper_tables.engine.records import Source
from paper_tables.engine.session import session_cached
from paper_tables.inputs import image_sets, pairs, training
from paper_tables.inputs.pairs import Pair

SECONDS = {"lenet": 1.6e-4, "resnet20": 4e-3}  # per image and epoch, measured on 2 CPU cores


def measured_epochs(epochs: int, count: int) -> tuple[int, ...]:
    """Epoch 0, which is before training, and up to `count` others at equal ratios.

    >>> measured_epochs(40, 5)
    (0, 1, 3, 6, 16, 40)
    """
    ratios = np.geomspace(1, epochs, count).round().astype(int).tolist() if count > 1 else [epochs]
    return tuple(sorted({0, *ratios}))


def missing(settings: Settings, pair: Pair) -> str | None:
    """Why the images of a pair are missing; None if they are there."""
    try:
        pairs.images(settings, pair)
    except MissingDataError as error:
        return error.reason
    return None


def training_config(settings: Settings, pair: Pair) -> dict[str, Any]:
    """Everything that determines the weights of a run, apart from its length."""
    image_set = pairs.images(settings, pair).train
    return training.config(model=pair.row, augmentation=None, **image_sets.config_of(image_set))


def config_of(settings: Settings, pair: Pair, epoch: int) -> dict[str, Any]:
    """The part of a cell's configuration that describes the network after an epoch."""
    found = pairs.images(settings, pair)
    return {
        "training": training_config(settings, pair),
        "trained_on": found.train.name,
        "other": found.other.name,
        "epoch": epoch,
        "epochs": settings.profile.runs.epochs,
        "mode": "eval",
        "dtype": "float32",
    }


def step(settings: Settings, pair: Pair) -> SharedStep:
    """The training as a step that all cells of a run share."""
    image_set, epochs = pairs.images(settings, pair).train, settings.profile.runs.epochs
    return SharedStep(
        name=f"training of {pair.row} on {image_set.name}",
        seconds=2 + epochs * len(image_set) * SECONDS[pair.row],
        run=lambda settings: training.outcome(_trained(settings, pair)),
    )


def at_epoch(settings: Settings, pair: Pair, epoch: int) -> tuple[nn.Module, Source]:
    """The network after an epoch of its run, and its digest; trains the run first if needed."""
    _trained(settings, pair)
    model = untrained(settings, pair)
    models.load_weights(model, kept_checkpoint(_checkpoint(settings, pair), epoch))
    name = f"{pair.row} trained here on {pair.trained_on}, {epoch} epochs"
    return model, Source(name, weights_sha256(model))


def untrained(settings: Settings, pair: Pair) -> nn.Module:
    """The network before its training, on the session's device."""
    classes = pairs.images(settings, pair).train.classes
    return models.build(pair.row, classes, training.SEED, "torch").to(settings.device)


def _checkpoint(settings: Settings, pair: Pair) -> Path:
    runs = settings.profile.runs
    # which epochs are kept depends on the length
    kept = {"epochs": runs.epochs, "measured": runs.measured, "curve": runs.curve}
    name, config = f"{pair.row}-{pair.trained_on}", training_config(settings, pair)
    return training.checkpoint(settings, name, {**config, **kept})


@session_cached(size=8)
def _trained(settings: Settings, pair: Pair) -> TrainingResult:
    image_set, runs = pairs.images(settings, pair).train, settings.profile.runs
    preprocessing = models.preprocessing(pair.row)
    x = data.to_input(image_set.images, device=settings.device, **preprocessing)
    return training.train(
        settings,
        untrained(settings, pair),
        (x, image_set.labels.to(settings.device)),
        _checkpoint(settings, pair),
        runs.epochs,
        keep_epochs={
            *measured_epochs(runs.epochs, runs.curve),
            *measured_epochs(runs.epochs, runs.measured),
        },
    )
