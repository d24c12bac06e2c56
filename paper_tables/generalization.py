"""The training runs of section 4: accuracy, loss and criteria along them, on two data sets.

A run is trained once and keeps a checkpoint of every epoch that is measured. Everything is measured
from these files, so that no measurement can disturb the training. One cell an epoch and a side:
the images that the network was trained on, or those of the other data set.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lla
from lla import data, models, training
from lla.data import ImageSet
from lla.errors import InputError, MissingDataError
from lla.estimate import Estimate
from lla.hessian.products.routes import RouteName
from lla.records import Record, Source, config_hash
from paper_tables import lenet, pairs, spectra
from paper_tables.cells import Cell, Settings, SharedStep, least_faithful
from paper_tables.checks import check_criteria
from paper_tables.pairs import PAIRS, Images, Pair
from paper_tables.profiles import PAPER_EPOCHS, PROFILES, Runs

__all__ = [
    "CURVE",
    "OWN_TEST",
    "SIDES",
    "TABLE",
    "at_epoch",
    "batch_of",
    "cells",
    "measured_epochs",
    "missing",
    "training_config",
    "training_step",
]

TABLE = "generalization"
SIDES = ("training", "generalization")
CURVE = ("accuracy", "loss")  # over all images of a side
OWN_TEST = "test_accuracy"  # over the test split of the set that the network is trained on
HESSIAN = (*(m for m in spectra.PLAIN if m != "loss"), "trace", "top_eigenvalue")
SEED = 0  # of initialisation and order of training
LR = 1e-3
BATCH_SIZE = 128  # of training; the paper does not state its own
ROUTE: RouteName = "linearized"  # fixed: routes round differently

# Measured on 2 CPU cores: seconds of training an image and epoch, and of a Hessian product.
COSTS = {"lenet": (1.6e-4, 1e-4), "resnet20": (4e-3, 8e-3)}


def cells(settings: Settings) -> list[Cell]:
    """All cells of the runs: the criteria of few epochs, and accuracy and loss of more."""
    found = []
    for pair in PAIRS:
        reason = missing(settings, pair)
        if reason:
            found += [_not_run(pair, side, reason) for side in SIDES]
            continue
        runs = settings.profile.runs
        every = measured_epochs(runs.epochs, runs.curve)
        some = measured_epochs(runs.epochs, runs.measured)
        for side in SIDES:
            found += [_curve_cell(settings, pair, side, epoch) for epoch in sorted({*every, *some})]
            found += [_criteria_cell(settings, pair, side, epoch) for epoch in some]
    return found


def measured_epochs(epochs: int, count: int) -> tuple[int, ...]:
    """Epoch 0, which is before training, and up to `count` of the others, at equal ratios.

    >>> measured_epochs(40, 5)
    (0, 1, 3, 6, 16, 40)
    """
    ratios = np.geomspace(1, epochs, count).round().astype(int).tolist() if count > 1 else [epochs]
    return tuple(sorted({0, *ratios}))


def missing(settings: Settings, pair: Pair) -> str | None:
    """Why the images of a pair cannot be had; None if they can."""
    try:
        pairs.images(settings, pair)
    except MissingDataError as error:  # what follows names folders of this machine
        return str(error).partition("; looked in")[0].removesuffix(".")
    return None


def _not_run(pair: Pair, side: str, reason: str) -> Cell:
    column = f"{pair.name}/{side}"
    return Cell(
        TABLE, pair.row, column, f"{pair.row}-{pair.name}-{side}", ("accuracy", "kh05"),
        {"row": pair.row, "column": column}, None, "", reason=reason, stage=2,
    )  # fmt: skip


# --- a run


def training_config(settings: Settings, pair: Pair) -> dict[str, Any]:
    """Everything that determines the weights of a run, its length apart."""
    found = pairs.images(settings, pair)
    return {
        "model": pair.row,
        "optimizer": "adam",
        "lr": LR,
        "batch_size": BATCH_SIZE,
        "seed": SEED,
        "init": "torch",
        "init_seed": SEED,
        "data": found.train.name,
        "split": found.train.split,
        "data_sha256": found.train.sha256,
        "augmentation": None,
    }


def training_step(settings: Settings, pair: Pair) -> SharedStep:
    """The training as a step that all cells of a run share."""
    found, runs = pairs.images(settings, pair), settings.profile.runs
    return SharedStep(
        name=f"training of {pair.row} on {found.train.name}",
        seconds=2 + runs.epochs * len(found.train) * COSTS[pair.row][0],
        run=lambda settings: _outcome(_trained(settings, pair)),
    )


def at_epoch(settings: Settings, pair: Pair, epoch: int) -> tuple[nn.Module, Source]:
    """The network after an epoch of its run, trained first if it is not yet, and its digest."""
    _trained(settings, pair)
    model = _untrained(settings, pair)
    models.load_weights(model, training.kept_checkpoint(_checkpoint(settings, pair), epoch))
    name = f"{pair.row} trained here on {pair.trained_on}, {epoch} epochs"
    return model, Source(name, training.weights_sha256(model))


def _untrained(settings: Settings, pair: Pair) -> nn.Module:
    classes = pairs.images(settings, pair).train.classes
    return models.build(pair.row, classes, SEED, "torch").to(settings.device)


def _checkpoint(settings: Settings, pair: Pair) -> Path:
    # which epochs are kept depends on the length, and a run goes on only on its kind of device
    runs = settings.profile.runs
    kept = {"epochs": runs.epochs, "measured": runs.measured, "curve": runs.curve}
    device = settings.device.partition(":")[0]
    key = config_hash({**training_config(settings, pair), **kept, "device": device})
    return settings.work / "weights" / f"{pair.row}-{pair.trained_on}-{key}.pt"


@functools.lru_cache(maxsize=8)
def _trained(settings: Settings, pair: Pair) -> training.TrainingResult:
    found, runs = pairs.images(settings, pair), settings.profile.runs
    path = _checkpoint(settings, pair)
    path.parent.mkdir(parents=True, exist_ok=True)
    x = data.to_input(found.train.images, device=settings.device, **pairs.preprocessing(pair.row))
    return training.train(
        _untrained(settings, pair),
        (x, found.train.labels.to(settings.device)),
        epochs=runs.epochs,
        batch_size=BATCH_SIZE,
        lr=LR,
        seed=SEED,
        checkpoint=path,
        keep_epochs={
            *measured_epochs(runs.epochs, runs.curve),
            *measured_epochs(runs.epochs, runs.measured),
        },
        progress=settings.progress,
    )


def _outcome(result: training.TrainingResult) -> str:
    return f"{result.epochs} epochs, training accuracy {100 * result.accuracy[-1]:.2f} %"


# --- the cells


def _begun(settings: Settings, pair: Pair, side: str, epoch: int) -> Cell:
    found, runs = pairs.images(settings, pair), settings.profile.runs
    image_set = _side(found, side)
    long = "paper" if runs.epochs >= PAPER_EPOCHS else "reduced"
    return Cell(
        table=TABLE,
        row=pair.row,
        column=f"{pair.name}/{side}",
        name=f"{pair.row}-{pair.name}-{side}-epoch{epoch:04d}",
        metrics=(),
        config={
            "training": training_config(settings, pair),
            "trained_on": found.train.name,
            "other": found.other.name,
            "epoch": epoch,
            "epochs": runs.epochs,
            "side": side,
            "data": image_set.name,
            "split": image_set.split,
            "data_sha256": image_set.sha256,
            "mode": "eval",
            "dtype": "float32",
        },
        fidelity=least_faithful((_fidelity(found, side), long)),
        inputs=f"{pair.row} trained on {found.train.name}, epoch {epoch} of {runs.epochs}, on "
        f"{image_set.name} {image_set.split}",
        stage=2,
        memory=2 * 2**30,
        shared=training_step(settings, pair),
    )


def _fidelity(found: Images, side: str) -> str:
    """What is measured on the training images has nothing to do with the other ones."""
    return found.train.fidelity if side == "training" else found.fidelity


def _side(found: Images, side: str) -> ImageSet:
    return found.train if side == "training" else found.other


def _curve_cell(settings: Settings, pair: Pair, side: str, epoch: int) -> Cell:
    begun = _begun(settings, pair, side, epoch)
    found = pairs.images(settings, pair)
    own_test = side == "training" and found.test is not None
    return dataclasses.replace(
        begun,
        name=f"{begun.name}-accuracy",
        metrics=(*CURVE, OWN_TEST) if own_test else CURVE,
        compute=_compute_curve,
        seconds=len(_side(found, side)) * COSTS[pair.row][0] / 3,
    )


def _criteria_cell(settings: Settings, pair: Pair, side: str, epoch: int) -> Cell:
    begun = _begun(settings, pair, side, epoch)
    image_set = _side(pairs.images(settings, pair), side)
    runs = settings.profile.runs
    count, size = batch_of(runs, pair, image_set)
    paper = PROFILES["paper"].runs
    as_the_papers = (runs.steps, runs.batch_size) == (paper.steps, paper.batch_size)
    amount = "paper" if as_the_papers and runs.probes >= paper.probes else "reduced"
    config = {
        **begun.config,
        "m": runs.steps,
        "probes": runs.probes,
        "batches": count,
        "batch_size": size,
        "seed": settings.profile.seed,
        "legacy": False,
        "readings": ["product", "density"],
        "route": ROUTE,
    }
    return dataclasses.replace(
        begun,
        metrics=HESSIAN,
        config=config,
        fidelity=least_faithful((begun.fidelity, amount)),
        inputs=f"{begun.inputs}, {count} x {size} images, {runs.probes} probes, m {runs.steps}",
        compute=_compute_criteria,
        seconds=2 + count * size * runs.probes * runs.steps * COSTS[pair.row][1],
    )


def batch_of(runs: Runs, pair: Pair, image_set: ImageSet) -> tuple[int, int]:
    """How many batches of how many images a network's criteria have, if there are as many."""
    wanted = runs.batch_size if pair.row == "lenet" else max(1, runs.batch_size // 8)
    return runs.batches, min(wanted, len(image_set) // runs.batches)


def _pair(cell: Cell) -> Pair:
    name = cell.column.partition("/")[0]
    return next(pair for pair in PAIRS if (pair.row, pair.name) == (cell.row, name))


def _compute_curve(cell: Cell, settings: Settings) -> list[Record]:
    pair, side = _pair(cell), cell.config["side"]
    found = pairs.images(settings, pair)
    model, weights = at_epoch(settings, pair, cell.config["epoch"])
    image_set = _side(found, side)
    records = _shares(cell, settings, pair, model, image_set, CURVE, weights)
    if OWN_TEST in cell.metrics:
        assert found.test is not None
        names = (OWN_TEST,)
        records += _shares(cell, settings, pair, model, found.test, names, weights)
    return records


def _shares(
    cell: Cell,
    settings: Settings,
    pair: Pair,
    model: nn.Module,
    image_set: ImageSet,
    names: tuple[str, ...],
    weights: Source,
) -> list[Record]:
    """Accuracy, and mean loss if it is named, over all images of a set; errors as of a sample."""
    right, losses = _examined(settings, pair, model, image_set)
    n, share = len(right), float(right.double().mean())
    facts: dict[str, Any] = {
        "n": n,
        "stderr_kind": "examples",
        "data": Source(image_set.name, image_set.sha256),
        "weights": weights,
    }
    values = (
        (100 * share, 100 * math.sqrt(share * (1 - share) / n)),
        (float(losses.double().mean()), float(losses.double().std()) / math.sqrt(n)),
    )
    return [cell.record(name, *value, **facts) for name, value in zip(names, values, strict=False)]


@torch.no_grad()
def _examined(
    settings: Settings, pair: Pair, model: nn.Module, image_set: ImageSet
) -> tuple[Tensor, Tensor]:
    """Which images are recognised [N] bool, and the loss of each [N]."""
    model.eval()
    right, losses = [], []
    for images, labels in zip(
        image_set.images.split(512), image_set.labels.split(512), strict=True
    ):
        x = data.to_input(images, device=settings.device, **pairs.preprocessing(pair.row))
        y = labels.to(settings.device)
        logits = model(x)
        right.append(logits.argmax(1) == y)
        losses.append(F.cross_entropy(logits, y, reduction="none"))
    return torch.cat(right), torch.cat(losses)


def _compute_criteria(cell: Cell, settings: Settings) -> list[Record]:
    pair, config = _pair(cell), cell.config
    image_set = _side(pairs.images(settings, pair), config["side"])
    model, weights = at_epoch(settings, pair, config["epoch"])
    batches = data.batches(
        image_set,
        config["batch_size"],
        config["batches"],
        seed=config["seed"],
        device=settings.device,
        **pairs.preprocessing(pair.row),
    )
    criteria = _criteria(cell, settings, model, batches)
    check_criteria(criteria)
    facts: dict[str, Any] = {
        "data": Source(image_set.name, image_set.sha256),
        "batch_sha256": lenet.batches_sha256(batches),
        "weights": weights,
    }
    found = spectra.criteria_records(cell, settings, criteria, keep=False, **facts)
    found = [record for record in found if record.metric in cell.metrics]
    more = {
        "trace": [s.size * float(s.moment(1).mean()) for s in criteria.spectra],
        "top_eigenvalue": [float(s.eigenvalues.max(1).mean()) for s in criteria.spectra],
    }
    for metric, samples in more.items():
        estimate = Estimate.of(samples, criteria.matvecs)
        found.append(
            cell.record(
                metric, estimate.value, estimate.stderr, n=estimate.n,
                stderr_kind=criteria.stderr_kind, route=criteria.route,
                matvecs=criteria.matvecs, **facts,
            )
        )  # fmt: skip
    return found


def _criteria(
    cell: Cell, settings: Settings, model: nn.Module, batches: list[tuple[Tensor, Tensor]]
) -> lla.Criteria:
    """The criteria by the cell's route, or, where that fails its check, by double backward.

    Where almost every image is fitted, all that is left of the loss is rounding of the softmax, and
    float32 takes the routes apart; double backward is what the others are checked against.
    """
    config = cell.config
    measure = functools.partial(
        lla.criteria,
        model,
        batches,
        mode="eval",
        probes=config["probes"],
        steps=config["m"],
        seed=config["seed"],
        progress=settings.progress,
    )
    try:
        return measure(route=config["route"])
    except InputError:
        return measure(route="retained")
