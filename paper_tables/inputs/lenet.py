"""LeNet on MNIST, or on the bundled digits where MNIST is not: data, batches, training."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from lla import data, models, training
from lla.data import ImageSet
from lla.errors import MissingDataError
from paper_tables.engine.cells import Settings, SharedStep
from paper_tables.engine.profiles import PAPER_EPOCHS, Profile
from paper_tables.engine.records import config_hash

__all__ = [
    "SEED",
    "SIZE",
    "Trained",
    "batches",
    "batches_sha256",
    "describe",
    "during_epoch",
    "fidelity",
    "fitted",
    "images",
    "trained",
    "training_config",
    "training_step",
    "untrained",
]

SEED = 0  # of initialisation and order of training
SIZE = 32  # the paper's input; zero-padded before anything else, and in [0, 1]
BATCH_SIZE = 128  # of training; the paper does not state its own
LR = 1e-3

Stage = Literal["random", "during", "trained"]


@dataclass(frozen=True)
class Trained:
    """LeNet after training, and on the way."""

    after: nn.Module
    during: nn.Module  # after `during_epoch`
    result: training.TrainingResult


def images(settings: Settings) -> ImageSet:
    """The training images: MNIST where it is found, else scikit-learn's digits, a stand-in."""
    return _load(settings.data_root, settings.download)


@functools.cache
def _load(root: object, download: bool) -> ImageSet:
    try:
        return data.load("mnist", "train", root, download=download)  # type: ignore[arg-type]
    except MissingDataError:
        return data.load("digits", "train")


def fitted(profile: Profile, image_set: ImageSet) -> Profile:
    """The profile with batches no larger than the images allow."""
    largest = len(image_set) // profile.batches
    return dataclasses.replace(profile, batch_size=min(profile.batch_size, largest))


def fidelity(profile: Profile, image_set: ImageSet, stage: Stage) -> str:
    """How faithful to the paper a spectrum of LeNet is."""
    if image_set.name != "mnist":
        return "substitute"
    if not profile.is_the_papers() or image_set.fidelity != "paper":
        return "reduced"
    as_long = profile.epochs >= PAPER_EPOCHS and profile.target_accuracy is None
    return "paper" if stage == "random" or (stage == "trained" and as_long) else "reduced"


def batches(settings: Settings, profile: Profile) -> list[tuple[Tensor, Tensor]]:
    """The batches of the spectra: drawn from the training split without replacement.

    Returns:
        Pairs (x [batch_size, 1, 32, 32], y [batch_size]) on the session's device.
    """
    return data.batches(
        images(settings),
        profile.batch_size,
        profile.batches,
        seed=profile.seed,
        size=SIZE,
        device=settings.device,
    )


def batches_sha256(pairs: list[tuple[Tensor, Tensor]]) -> str:
    """Hash the very examples drawn."""
    digest = hashlib.sha256()
    for pair in pairs:
        for tensor in pair:
            digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def untrained(settings: Settings, init: str) -> nn.Module:
    """LeNet with random weights, on the session's device."""
    model = models.build("lenet", seed=SEED, init=init)  # type: ignore[arg-type]
    return model.to(settings.device)


def during_epoch(profile: Profile, image_set: ImageSet) -> int:
    """The epoch that stands for "during training"; a small data set needs more of them."""
    return min(1 if image_set.name == "mnist" else 8, profile.epochs)


def training_config(profile: Profile, image_set: ImageSet) -> dict[str, Any]:
    """Everything that determines the trained weights."""
    return {
        "optimizer": "adam",
        "lr": LR,
        "batch_size": BATCH_SIZE,
        "epochs": profile.epochs,
        "target_accuracy": profile.target_accuracy,
        "seed": SEED,
        "data_sha256": image_set.sha256,
        "size": SIZE,
        "init": "torch",
        "init_seed": SEED,
    }


def training_step(settings: Settings, image_set: ImageSet) -> SharedStep:
    """The training as a step that all cells of the trained network share."""
    epochs = settings.profile.epochs
    if settings.profile.target_accuracy is not None:
        epochs = min(epochs, 11)  # MNIST gets there in 11
    return SharedStep(
        name=f"training of LeNet on {image_set.name}",
        seconds=2 + epochs * len(image_set) / 60_000 * 9,
        run=lambda settings: _outcome(trained(settings).result),
    )


def trained(settings: Settings) -> Trained:
    """LeNet trained as the profile says.

    The checkpoint lies in the work folder under the hash of the configuration: an interrupted
    training continues from its last epoch, a finished one is read.
    """
    return _trained(settings)


@functools.lru_cache(maxsize=1)
def _trained(settings: Settings) -> Trained:
    image_set = images(settings)
    config = training_config(settings.profile, image_set)
    # A run continues only on the kind of device that it began on.
    key = config_hash({**config, "device": settings.device.partition(":")[0]})
    path = settings.work / "weights" / f"lenet-{image_set.name}-{key}.pt"
    (pair,) = data.batches(image_set, len(image_set), size=SIZE, device=settings.device)
    after, epoch = untrained(settings, "torch"), during_epoch(settings.profile, image_set)
    result = training.train(
        after,
        pair,
        epochs=settings.profile.epochs,
        batch_size=BATCH_SIZE,
        lr=LR,
        seed=SEED,
        checkpoint=path,
        target_accuracy=settings.profile.target_accuracy,
        keep_epochs=(epoch,),
        progress=settings.progress,
    )
    during = untrained(settings, "torch")
    models.load_weights(during, training.kept_checkpoint(path, epoch))
    return Trained(after, during, result)


def _outcome(result: training.TrainingResult) -> str:
    return f"{result.epochs} epochs, training accuracy {100 * result.accuracy[-1]:.2f} %"


def describe(image_set: ImageSet, config: Mapping[str, Any]) -> str:
    """The input of a cell in words."""
    stand_in = "" if image_set.name == "mnist" else " (stand-in: MNIST was not found)"
    return (
        f"{image_set.name} {image_set.split}{stand_in}, {config['batches']} x "
        f"{config['batch_size']} images, {config['probes']} probes, m {config['m']}"
    )
