"""LeNet on MNIST, or on the bundled digits if MNIST is not found: data, batches, training."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from lla import data, models
from lla.data import ImageSet
from lla.errors import MissingDataError
from lla.training import TrainingResult, kept_checkpoint, weights_sha256
from paper_tables.engine.cells import Settings, SharedStep
from paper_tables.engine.fidelity import cell_fidelity
from paper_tables.engine.profiles import PAPER_EPOCHS, Profile
from paper_tables.engine.records import Source
from paper_tables.engine.session import session_cached
from paper_tables.inputs import image_sets, training
from paper_tables.inputs.image_sets import Batches
from paper_tables.inputs.training import SEED

SIZE = 32  # the paper's input; zero-padded before anything else, and in [0, 1]

Stage = Literal["random", "during", "trained"]


@dataclass(frozen=True)
class TrainedLeNet:
    """LeNet after training and during it."""

    after: nn.Module
    during: nn.Module  # after `during_epoch`
    result: TrainingResult


@session_cached()
def images(settings: Settings) -> ImageSet:
    """The training images: MNIST where it is found, else scikit-learn's digits, a stand-in."""
    try:
        return data.load("mnist", "train", settings.data_root, download=settings.download)
    except MissingDataError:
        return data.load("digits", "train")


def fitted(profile: Profile, image_set: ImageSet) -> Profile:
    """The profile with batches no larger than the images allow."""
    largest = len(image_set) // profile.batches
    return dataclasses.replace(profile, batch_size=min(profile.batch_size, largest))


def fidelity(profile: Profile, image_set: ImageSet, stage: Stage) -> str:
    """How faithful to the paper a spectrum of LeNet is."""
    whole = stage == "random" or (stage == "trained" and trains_as_long(profile))
    return cell_fidelity(image_set.fidelity, whole=whole and profile.is_the_papers())


def trains_as_long(profile: Profile) -> bool:
    """Whether LeNet is trained for as many epochs as the paper trains it."""
    return profile.epochs >= PAPER_EPOCHS and profile.target_accuracy is None


def batches(settings: Settings) -> Batches:
    """The batches of the spectra: drawn from the training split without replacement."""
    image_set = images(settings)
    profile = fitted(settings.profile, image_set)
    return image_sets.draw(
        settings, "lenet", image_set, profile.batch_size, profile.batches, profile.seed
    )


def untrained(settings: Settings, init: str) -> nn.Module:
    """LeNet with random weights, on the session's device."""
    return models.build("lenet", seed=SEED, init=init).to(settings.device)  # type: ignore[arg-type]


def during_epoch(settings: Settings) -> int:
    """The epoch that stands for "during training"; it is later on a small data set."""
    return min(1 if images(settings).name == "mnist" else 8, settings.profile.epochs)


def training_config(settings: Settings) -> dict[str, Any]:
    """Everything that determines the trained weights."""
    return training.config(
        epochs=settings.profile.epochs,
        target_accuracy=settings.profile.target_accuracy,
        data_sha256=images(settings).sha256,
        size=SIZE,
    )


def training_step(settings: Settings) -> SharedStep:
    """The training as a step that all cells of the trained network share."""
    image_set, epochs = images(settings), settings.profile.epochs
    if settings.profile.target_accuracy is not None:
        epochs = min(epochs, 11)  # on MNIST the target is reached after 11
    return SharedStep(
        name=f"training of LeNet on {image_set.name}",
        seconds=2 + epochs * len(image_set) / 60_000 * 9,
        run=lambda settings: training.outcome(trained(settings).result),
    )


@session_cached(size=1)
def trained(settings: Settings) -> TrainedLeNet:
    """LeNet trained as the profile says."""
    image_set, profile = images(settings), settings.profile
    path = training.checkpoint(settings, f"lenet-{image_set.name}", training_config(settings))
    (pair,) = data.batches(image_set, len(image_set), size=SIZE, device=settings.device)
    after, epoch = untrained(settings, "torch"), during_epoch(settings)
    result = training.train(
        settings, after, pair, path, profile.epochs,
        target_accuracy=profile.target_accuracy, keep_epochs=(epoch,),
    )  # fmt: skip
    during = untrained(settings, "torch")
    models.load_weights(during, kept_checkpoint(path, epoch))
    return TrainedLeNet(after, during, result)


def network(
    settings: Settings, state: Stage, init: str = "torch"
) -> tuple[nn.Module, Source, str | None]:
    """LeNet, its weights' name and digest, and how it was trained."""
    note = None
    if state == "random":
        model, name = untrained(settings, init), f"lenet, {init} init, seed {SEED}"
    else:
        made = trained(settings)
        epoch = made.result.epochs
        model, name = made.after, f"lenet trained here, {epoch} epochs"
        if state == "during":
            epoch = during_epoch(settings)
            model, name = made.during, f"lenet trained here, {epoch} of its epochs"
        accuracy = made.result.accuracy[min(epoch, made.result.epochs) - 1]
        note = f"trained {epoch} epochs, training accuracy {100 * accuracy:.2f} %"
    return model, Source(name, weights_sha256(model)), note
