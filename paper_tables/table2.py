"""The cells of Table 2, criteria at random initialisation and after training, and of its figures.

LeNet on MNIST stands here, the networks that see photographs in `paper_tables.curvature`.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import nn

import lla
from lla import training
from lla.data import ImageSet
from lla.hessian.products.routes import RouteName
from lla.records import Record, Source
from paper_tables import curvature, lenet, networks, spectra
from paper_tables.cells import Cell, Settings
from paper_tables.checks import check_criteria, check_trace
from paper_tables.profiles import Profile

__all__ = ["ROUTE", "cells", "config_of", "criteria_of", "figure_cells", "network_of"]

# Not the one that is measured to be the fastest: the routes round differently, and a cell that is
# computed again has to give the same value.
ROUTE: RouteName = "linearized"

# LeNet's spectra: state, initialisation, legacy. The trained network starts from torch's default.
# A short profile has neither the uniform initialisation nor the legacy ones.
VARIANTS: tuple[tuple[lenet.Stage, str, bool], ...] = (
    ("random", "torch", False),
    ("random", "uniform", False),
    ("random", "torch", True),
    ("trained", "torch", False),
    ("trained", "torch", True),
)
COLUMNS = {"random": "random", "during": "during", "trained": "pretrained"}


def cells(settings: Settings) -> list[Cell]:
    """All cells of Table 2."""
    computed = [
        _spectrum_cell(settings, state, mode, init, legacy)
        for state, init, legacy in VARIANTS
        if settings.profile.criteria.variants or (init == "torch" and not legacy)
        for mode in ("eval", "train")
    ]
    return [*computed, _accuracy_cell(settings), *_cells_of_photographs(settings)]


def _cells_of_photographs(settings: Settings) -> list[Cell]:
    """The cells of the other networks, one network and weight state after another."""
    found = []
    for net in networks.networks(settings.profile):
        if net.digits:
            continue
        for state in networks.STATES:
            for init, legacy in _variants(settings, state):
                found += [
                    curvature.spectrum_cell(
                        settings, "table2", f"{state}/{mode}", net, state, mode,
                        init=init, legacy=legacy,
                    )
                    for mode in ("eval", "train")
                ]  # fmt: skip
        found.append(curvature.accuracy_cell(settings, net))
    return list({(cell.row, cell.column, cell.hash): cell for cell in found}.values())


def _variants(settings: Settings, state: networks.State) -> list[tuple[str, bool]]:
    """Initialisations, and whether by the imitated public code."""
    if not settings.profile.criteria.variants:
        return [("torch", False)]
    uniform = [("uniform", False)] if state == "random" else []
    return [("torch", False), *uniform, ("torch", True)]


def figure_cells(settings: Settings) -> list[Cell]:
    """The cells of the HESD figures: at initialisation, during and after training.

    The first and the last are cells of Table 2 and computed once for both.
    """
    return [
        _spectrum_cell(settings, state, "eval", "torch", legacy=False)
        for state in ("random", "during", "trained")
    ]


def _spectrum_cell(
    settings: Settings, state: lenet.Stage, mode: str, init: str, legacy: bool
) -> Cell:
    image_set = lenet.images(settings)
    profile = lenet.fitted(settings.profile, image_set)
    config = config_of(profile, image_set, state) | {
        "mode": mode,
        "init": init,
        "m": profile.steps,
        "probes": profile.probes,
        "legacy": legacy,
        "readings": ["product"] if legacy else ["product", "density"],
        "route": ROUTE,
        "scope": "batches",
        "loss": "cross_entropy",
    }
    products = profile.batches * profile.probes * profile.steps
    variant = f"{init}-{'legacy' if legacy else 'plain'}"
    return Cell(
        table="hesd" if state == "during" else "table2",
        row="lenet",
        column=f"{COLUMNS[state]}/{mode}",
        name=f"lenet-{COLUMNS[state]}-{mode}-{variant}",
        metrics=spectra.metrics(legacy),
        config=config,
        fidelity=lenet.fidelity(profile, image_set, state),
        inputs=lenet.describe(image_set, config),
        compute=_compute_spectrum,
        stage=0 if state == "random" else 1,
        seconds=2 + products * profile.batch_size * SECONDS_AN_IMAGE,
        memory=_memory(profile, state),
        shared=None if state == "random" else lenet.training_step(settings, image_set),
    )


# Measured on 2 CPU cores, allocator tuned, which keeps what the training took.
SECONDS_AN_IMAGE = 6e-5  # of a product
BYTES_AN_IMAGE = 450_000
BASE_MEMORY = 512 * 2**20  # Python, torch, the data set
TRAINING_MEMORY = 650 * 2**20


def _memory(profile: Profile, state: lenet.Stage) -> int:
    training = 0 if state == "random" else TRAINING_MEMORY
    return BASE_MEMORY + training + profile.batch_size * BYTES_AN_IMAGE


def _accuracy_cell(settings: Settings) -> Cell:
    image_set = lenet.images(settings)
    profile = lenet.fitted(settings.profile, image_set)
    return Cell(
        table="table2",
        row="lenet",
        column="accuracy",
        name="lenet-accuracy",
        metrics=("accuracy", "training_accuracy"),
        config=config_of(profile, image_set, "trained") | {"mode": "mean"},
        fidelity=lenet.fidelity(profile, image_set, "trained"),
        inputs=f"{image_set.name} {image_set.split}, the batches of the spectra",
        compute=_compute_accuracy,
        stage=1,
        seconds=1,
        memory=_memory(profile, "trained"),
        shared=lenet.training_step(settings, image_set),
    )


def config_of(profile: Profile, image_set: ImageSet, state: lenet.Stage) -> dict[str, Any]:
    """Everything that determines LeNet and its batches."""
    config: dict[str, Any] = {
        "model": "lenet",
        "state": state,
        "init_seed": lenet.SEED,
        "data": image_set.name,
        "split": image_set.split,
        "data_sha256": image_set.sha256,
        "size": lenet.SIZE,
        "batches": profile.batches,
        "batch_size": profile.batch_size,
        "seed": profile.seed,
        "dtype": "float32",
    }
    if state != "random":
        config["training"] = lenet.training_config(profile, image_set)
    if state == "during":
        config["epoch"] = lenet.during_epoch(profile, image_set)
    return config


def _compute_spectrum(cell: Cell, settings: Settings) -> list[Record]:
    config = cell.config
    image_set = lenet.images(settings)
    profile = lenet.fitted(settings.profile, image_set)
    pairs = lenet.batches(settings, profile)
    _, weights, note = network_of(settings, config["state"], config["init"])
    criteria = criteria_of(settings, config["state"], config["init"], config["legacy"])
    check_criteria(criteria)
    check_trace(criteria.spectra)  # LeNet is piecewise linear and has no BatchNorm
    keep = config["mode"] == "eval" and config["init"] == "torch" and not config["legacy"]
    return spectra.criteria_records(
        cell,
        settings,
        criteria,
        keep,
        data=Source(image_set.name, image_set.sha256),
        batch_sha256=lenet.batches_sha256(pairs),
        weights=weights,
        note="; ".join(filter(None, [note, "both modes are one function, computed once"])),
    )


@functools.lru_cache(maxsize=16)
def criteria_of(settings: Settings, state: lenet.Stage, init: str, legacy: bool) -> lla.Criteria:
    """LeNet's criteria, computed once: without BatchNorm and dropout both modes are one function.

    Args:
        settings: of the session.
        state: of its weights.
        init: how random weights are drawn.
        legacy: imitate the authors' public code.
    """
    profile = lenet.fitted(settings.profile, lenet.images(settings))
    model, _, _ = network_of(settings, state, init)
    return lla.criteria(
        model,
        lenet.batches(settings, profile),
        mode="eval",
        probes=profile.probes,
        steps=profile.steps,
        seed=profile.seed,
        legacy=legacy,
        route=ROUTE,
        progress=settings.progress,
    )


def network_of(
    settings: Settings, state: lenet.Stage, init: str = "torch"
) -> tuple[nn.Module, Source, str | None]:
    """LeNet, its weights' name and digest, and how it was trained."""
    note = None
    if state == "random":
        model = lenet.untrained(settings, init)
        name = f"lenet, {init} init, seed {lenet.SEED}"
    else:
        trained = lenet.trained(settings)
        epoch = trained.result.epochs
        model, name = trained.after, f"lenet trained here, {epoch} epochs"
        if state == "during":
            epoch = lenet.during_epoch(settings.profile, lenet.images(settings))
            model, name = trained.during, f"lenet trained here, {epoch} of its epochs"
        accuracy = trained.result.accuracy[min(epoch, trained.result.epochs) - 1]
        note = f"trained {epoch} epochs, training accuracy {100 * accuracy:.2f} %"
    return model, Source(name, training.weights_sha256(model)), note


def _compute_accuracy(cell: Cell, settings: Settings) -> list[Record]:
    image_set = lenet.images(settings)
    pairs = lenet.batches(settings, lenet.fitted(settings.profile, image_set))
    model, weights, note = network_of(settings, "trained")
    x, y = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    share = training.accuracy(model, x, y)
    facts: dict[str, Any] = {
        "data": Source(image_set.name, image_set.sha256),
        "weights": weights,
        "note": f"{note}; LeNet's two modes are one function, so this is their mean",
    }
    whole = lenet.trained(settings).result.accuracy[-1]
    drawn: dict[str, Any] = {
        "n": len(y),
        "stderr_kind": "examples",
        "batch_sha256": lenet.batches_sha256(pairs),
    }
    error = math.sqrt(share * (1 - share) / len(y))
    return [
        cell.record("accuracy", 100 * share, 100 * error, **drawn, **facts),
        cell.record("training_accuracy", 100 * whole, **facts),  # of all images: no sample
    ]
