"""Multilayer perceptrons: trained from several seeds, then measured layer by layer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lla import data
from lla.data import ImageSet
from lla.errors import MissingDataError
from lla.files import sha256_of_bytes, sha256_of_parts
from lla.seeding import generator, seeded
from lla.tensor_hashes import weights_sha256
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.fidelity import cell_fidelity
from paper_tables.engine.records import Record, Source
from paper_tables.engine.session import session_cached
from paper_tables.exhibits.layerwise.measured import (
    CLASSES,
    METRICS,
    OVERLAP,
    curvatures,
    metric,
    records_of,
)
from paper_tables.inputs import image_sets, training

TABLE = "layerwise"
IMAGE_SEED = 0  # of the choice of examples that are measured


@dataclass(frozen=True)
class Family:
    """Networks of one shape that are trained on one data set.

    Attributes:
        row: of the tables.
        data: name of the data set.
        side: images are averaged down to this side, without their border; 0 leaves them.
        hidden: widths of the hidden layers.
        k: eigenvectors of each layer.
        images: examples that are measured.
        seeds: networks of each variant.
        epochs, batch_size, lr: of the training, by Adam.
        seconds: estimate for a variant, on 2 CPU cores.
    """

    row: str
    data: str
    side: int
    hidden: tuple[int, ...]
    k: int
    images: int
    seeds: int
    epochs: int
    batch_size: int
    lr: float
    seconds: float

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the linear layers."""
        return tuple(f"fc{i}" for i in range(1, len(self.hidden) + 2))


@dataclass(frozen=True)
class Variant:
    """What differs between networks of a family.

    Attributes:
        column: of the tables.
        centred: trained on images minus the mean of the training images.
        batchnorm: BatchNorm after each hidden layer.
        moved: measured with the inputs of each layer minus their mean, see `lla.layerwise`.
    """

    column: str
    centred: bool = False
    batchnorm: bool = False
    moved: bool = False


RAW, MOVED = Variant("raw"), Variant("raw, centred when measured", moved=True)
CENTRED = Variant("trained on centred inputs", centred=True)
BATCHNORM = Variant("BatchNorm", batchnorm=True)
VARIANTS = (RAW, MOVED, CENTRED, BATCHNORM)
BUNDLED = Family("digits-mlp", "digits", 8, (24, 24), 9, 512, 5, 15, 64, 3e-3, seconds=12)
REAL = Family("mnist-mlp", "mnist", 0, (200, 200), 10, 1024, 6, 5, 128, 1e-3, seconds=80)
FAMILIES = (BUNDLED, REAL)


def families(settings: Settings) -> Iterator[tuple[Family, str | None]]:
    """The families to measure, each with the reason why it cannot be."""
    for family in FAMILIES if settings.profile.runs.real else (BUNDLED,):
        try:
            images(settings, family)
        except MissingDataError as error:
            yield family, error.reason
        else:
            yield family, None


def cells(settings: Settings) -> list[Cell]:
    """One cell a variant of networks."""
    found = []
    for family, reason in families(settings):
        for variant in VARIANTS:
            if reason is None:
                found.append(_cell(settings, family, variant))
            else:
                absent = Cell(TABLE, family.row, variant.column, f"{family.row}-{variant.column}",
                              (metric(OVERLAP, "fc1"),), {}, None, "")  # fmt: skip
                found.append(absent.absent(reason))
    return found


@session_cached()
def images(settings: Settings, family: Family) -> ImageSet:
    """The training images of a family.

    Raises:
        MissingDataError: they are not found.
    """
    return data.load(family.data, "train", settings.data_root, download=settings.download)


@session_cached(size=2)
def inputs(settings: Settings, family: Family, centred: bool) -> tuple[Tensor, Tensor]:
    """All training images as networks see them, and their labels, on the session's device."""
    found = images(settings, family)
    x = data.to_input(found.images)
    if family.side:
        x = F.adaptive_avg_pool2d(x[:, :, 4:-4, 4:-4], family.side)
    x = x - x.mean(0) if centred else x
    return x.to(settings.device), found.labels.to(settings.device)


@session_cached()
def examples(settings: Settings, family: Family, centred: bool) -> tuple[Tensor, Tensor]:
    """The examples that are measured, in float64."""
    x, y = inputs(settings, family, centred)
    chosen = torch.randperm(len(x), generator=generator(IMAGE_SEED))[: family.images]
    return x[chosen.to(x.device)].double(), y[chosen.to(y.device)]


def perceptron(pixels: int, hidden: tuple[int, ...], batchnorm: bool) -> nn.Sequential:
    """Linear layers fc1, fc2, ... with ReLU between them.

    Args:
        pixels: numbers of an image.
        hidden: widths.
        batchnorm: after each hidden layer.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for i, (before, after) in enumerate(pairwise((pixels, *hidden)), start=1):
        parts[f"fc{i}"] = nn.Linear(before, after)
        if batchnorm:
            parts[f"bn{i}"] = nn.BatchNorm1d(after)
        parts[f"relu{i}"] = nn.ReLU()
    parts[f"fc{len(hidden) + 1}"] = nn.Linear(hidden[-1], CLASSES)
    return nn.Sequential(parts)


def training_config(settings: Settings, family: Family, variant: Variant) -> dict[str, Any]:
    """Everything that determines the weights of all networks of a variant."""
    return training.config(
        network="MLP", hidden=list(family.hidden), batchnorm=variant.batchnorm,
        centred=variant.centred, side=family.side, seeds=family.seeds, epochs=family.epochs,
        batch_size=family.batch_size, lr=family.lr,
        **image_sets.config_of(images(settings, family)),
    )  # fmt: skip


@session_cached(size=2)
def trained(
    settings: Settings, family: Family, centred: bool, batchnorm: bool
) -> tuple[list[nn.Module], Source, str]:
    """The networks of a variant in float64 and eval mode, what they are, and how they learned."""
    variant = Variant("", centred, batchnorm)
    x, y = inputs(settings, family, centred)
    found, accuracies = [], []
    for seed in range(family.seeds):
        with seeded(torch.device("cpu"), seed):
            model = perceptron(x[0].numel(), family.hidden, batchnorm)
        model.to(settings.device)
        config = training_config(settings, family, variant) | {"seed": seed, "init_seed": seed}
        path = training.checkpoint(settings, f"{family.row}-{seed}", config)
        result = training.train(
            settings, model, (x, y), path, family.epochs, batch_size=family.batch_size,
            lr=family.lr, seed=seed,
        )  # fmt: skip
        accuracies.append(100 * result.accuracy[-1])
        found.append(model.eval())
    digest = sha256_of_bytes("".join(map(weights_sha256, found)))
    source = Source(f"{len(found)} networks trained here, {family.epochs} epochs", digest)
    note = f"training accuracy {min(accuracies):.2f} to {max(accuracies):.2f} %"
    return [model.double() for model in found], source, note


def config_of(settings: Settings, family: Family, variant: Variant) -> dict[str, Any]:
    """Everything that determines networks and examples."""
    return {
        "training": training_config(settings, family, variant),
        "images": family.images,
        "image_seed": IMAGE_SEED,
        "dtype": "float64",
        "mode": "eval",
    }


def fidelity(settings: Settings, family: Family) -> str:
    """How faithful a family is: the settings of its training are not those of the work."""
    return cell_fidelity(images(settings, family).fidelity, whole=False)


def facts(settings: Settings, family: Family, variant: Variant) -> dict[str, Any]:
    """The fields of a record that name its inputs."""
    x, y = examples(settings, family, variant.centred)
    arrays = (part.cpu().contiguous().numpy().data for part in (x, y))
    _, weights, note = trained(settings, family, variant.centred, variant.batchnorm)
    return {
        "data": image_sets.source_of(images(settings, family)),
        "batch_sha256": sha256_of_parts(arrays),
        "weights": weights,
        "note": note,
    }


def _cell(settings: Settings, family: Family, variant: Variant) -> Cell:
    return Cell(
        table=TABLE,
        row=family.row,
        column=variant.column,
        name=f"{family.row}-{variant.column.replace(', ', '-').replace(' ', '-')}".lower(),
        metrics=tuple(metric(name, layer) for layer in family.layers for name in METRICS),
        config={
            **config_of(settings, family, variant), "k": family.k, "centre": variant.moved,
        },
        fidelity=fidelity(settings, family),
        inputs=f"{family.seeds} MLPs trained on {family.data}, {variant.column}",
        compute=_compute,
        stage=1,
        seconds=family.seconds,
        memory=2**30,
    )  # fmt: skip


def _compute(cell: Cell, settings: Settings) -> list[Record]:
    family = next(family for family in FAMILIES if family.row == cell.row)
    variant = next(variant for variant in VARIANTS if variant.column == cell.column)
    models, _, _ = trained(settings, family, variant.centred, variant.batchnorm)
    batch = examples(settings, family, variant.centred)
    found = [curvatures(model, batch, family.k, centre=variant.moved) for model in models]
    return records_of(cell, settings, found, "networks", facts(settings, family, variant))
