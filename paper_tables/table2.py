"""The cells of Table 2, criteria at random initialisation and after training, and of its figures.

LeNet is computed; the other networks of the table say why they are not.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import lla
from lla import training
from lla.data import ImageSet
from lla.records import Record, Source
from paper_tables import lenet, store
from paper_tables.cells import Cell, Settings
from paper_tables.checks import check_criteria, check_trace
from paper_tables.profiles import Profile
from paper_tables.values import paper_columns, paper_rows

__all__ = ["cells", "figure_cells"]

# Metric -> the estimate of `lla.Criteria` that it is, and its reading.
ESTIMATES = {
    "kh1": ("kh1", "product"),
    "kh05": ("kh05", "product"),
    "re": ("re", "product"),
    "kh05_density": ("kh05", "density"),
    "negative_share": ("negative_share", "product"),
}
PLAIN = (*ESTIMATES, "loss")
# Not the density reading: ghosts give the legacy spectrum nodes near zero whose weights are
# rounding alone (0.35 to 1.6 for one network, by threads and route).
LEGACY = tuple(metric for metric in PLAIN if metric != "kh05_density")
LATER = "networks other than LeNet come with the model suite of a later issue"

# Not the one that is measured to be the fastest: the routes round differently, and a cell that is
# computed again has to give the same value.
ROUTE = "linearized"

# LeNet's spectra: state, initialisation, legacy. The trained network starts from torch's default.
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
        for mode in ("eval", "train")
    ]
    return [*computed, _accuracy_cell(settings), *_cells_of_later_networks()]


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
    config = _config(profile, image_set, state) | {
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
        metrics=LEGACY if legacy else PLAIN,
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
        config=_config(profile, image_set, "trained") | {"mode": "mean"},
        fidelity=lenet.fidelity(profile, image_set, "trained"),
        inputs=f"{image_set.name} {image_set.split}, the batches of the spectra",
        compute=_compute_accuracy,
        stage=1,
        seconds=1,
        memory=_memory(profile, "trained"),
        shared=lenet.training_step(settings, image_set),
    )


def _config(profile: Profile, image_set: ImageSet, state: lenet.Stage) -> dict[str, Any]:
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
        "seed": lenet.SEED,
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
    model, weights, note = _network(cell, settings)
    criteria = lla.criteria(
        model,
        pairs,
        mode=config["mode"],
        probes=config["probes"],
        steps=config["m"],
        seed=config["seed"],
        legacy=config["legacy"],
        route=config["route"],
        progress=settings.progress,
    )
    check_criteria(criteria)
    check_trace(criteria.spectra)  # LeNet is piecewise linear and has no BatchNorm
    facts: dict[str, Any] = {
        "stderr_kind": criteria.stderr_kind,
        "route": criteria.route,
        "matvecs": criteria.matvecs,
        "data": Source(image_set.name, image_set.sha256),
        "batch_sha256": lenet.batches_sha256(pairs),
        "weights": weights,
        "note": note,
    }
    if config["mode"] == "eval" and config["init"] == "torch" and not config["legacy"]:
        facts["artifact"] = _save_spectrum(cell, settings, criteria)
    readings = {"product": criteria, "density": criteria.reread("density")}
    found = []
    for metric in cell.metrics[:-1]:
        name, reading = ESTIMATES[metric]
        estimate = getattr(readings[reading], name)
        found.append(
            cell.record(
                metric, estimate.value, estimate.stderr, n=estimate.n, reading=reading, **facts
            )
        )
    return [*found, cell.record("loss", criteria.loss, **facts)]


def _network(cell: Cell, settings: Settings) -> tuple[nn.Module, Source, str | None]:
    """The network of a cell, its weights' name and digest, and how it was trained."""
    state, init = cell.config["state"], cell.config.get("init", "torch")
    note = None
    if state == "random":
        model = lenet.untrained(settings, init)
        name = f"lenet, {init} init, seed {lenet.SEED}"
    else:
        trained = lenet.trained(settings)
        epoch = trained.result.epochs
        model, name = trained.after, f"lenet trained here, {epoch} epochs"
        if state == "during":
            epoch = cell.config["epoch"]
            model, name = trained.during, f"lenet trained here, {epoch} of its epochs"
        accuracy = trained.result.accuracy[min(epoch, trained.result.epochs) - 1]
        note = f"trained {epoch} epochs, training accuracy {100 * accuracy:.2f} %"
    return model, Source(name, training.weights_sha256(model)), note


def _save_spectrum(cell: Cell, settings: Settings, criteria: lla.Criteria) -> Source:
    """Keep the spectra of all batches as one, whose density is their mean."""
    spectra = criteria.spectra
    pooled = dataclasses.replace(
        spectra[0],
        eigenvalues=_stacked(spectra, lambda spectrum: spectrum.eigenvalues),
        weights=_stacked(spectra, lambda spectrum: spectrum.weights),
        counts=_stacked(spectra, lambda spectrum: spectrum.counts),
        matvecs=criteria.matvecs,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spectrum.npz"
        pooled.save(path)
        content = path.read_bytes()
    return store.save_artifact(content, f"spectra/{cell.name}-{cell.hash}.npz", settings.work)


def _stacked(
    spectra: Sequence[lla.Spectrum], field: Callable[[lla.Spectrum], np.ndarray]
) -> np.ndarray:
    return np.concatenate([field(spectrum) for spectrum in spectra])


def _compute_accuracy(cell: Cell, settings: Settings) -> list[Record]:
    image_set = lenet.images(settings)
    pairs = lenet.batches(settings, lenet.fitted(settings.profile, image_set))
    model, weights, note = _network(cell, settings)
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


def _cells_of_later_networks() -> list[Cell]:
    """A cell for every value of the other networks, with the reason why it is not computed."""
    return [
        Cell(
            table="table2",
            row=row,
            column=column,
            name=f"{row}-{column.replace('/', '-')}",
            metrics=("accuracy",) if column == "accuracy" else ("kh1", "kh05", "re"),
            config={"model": row, "column": column},
            fidelity=None,
            inputs="",
            reason=LATER,
            stage=2,
        )
        for row in paper_rows("table2")
        if row != "lenet"
        for column in paper_columns("table2")
    ]
