"""The cells of Table 2, criteria at random initialisation and after training, and of its figures.

LeNet on MNIST is measured here, networks on photographs in `paper_tables.measure.photographs`.
"""

from __future__ import annotations

import torch

from lla import training
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.records import Record
from paper_tables.inputs import lenet, networks
from paper_tables.measure import lenet_criteria, photographs, spectra
from paper_tables.measure.checks import check_criteria, check_trace
from paper_tables.measure.photographs import Case
from paper_tables.measure.shares import percent

# The columns of LeNet's states.
COLUMNS = {"random": "random", "during": "during", "trained": "pretrained"}


def cells(settings: Settings) -> list[Cell]:
    """All cells of Table 2."""
    states: tuple[lenet.Stage, ...] = ("random", "trained")
    computed = [
        _spectrum_cell(settings, state, mode, init, legacy)
        for state in states
        for init, legacy in _variants(settings, state)
        for mode in ("eval", "train")
    ]
    return [*computed, _accuracy_cell(settings), *_cells_of_photographs(settings)]


def _cells_of_photographs(settings: Settings) -> list[Cell]:
    """The cells of the other networks, ordered by network, then by weight state."""
    found = []
    for net in networks.networks(settings.profile):
        if net.digits:
            continue
        cases = [
            Case(net, state, mode, init=init, legacy=legacy)
            for state in networks.STATES
            for init, legacy in _variants(settings, state)
            for mode in ("eval", "train")
        ]
        found += [
            photographs.spectrum_cell(settings, "table2", f"{case.state}/{case.mode}", case)
            for case in cases
        ]
        found.append(photographs.accuracy_cell(settings, net))
    return list({(cell.row, cell.column, cell.hash): cell for cell in found}.values())


def _variants(settings: Settings, state: str) -> list[tuple[str, bool]]:
    """Pairs of an initialisation and whether public code is imitated; short profiles have one.

    Training always starts from torch's default initialisation.
    """
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
    config = lenet_criteria.config_of(settings, state, mode, init, legacy)
    config |= {"scope": "batches", "loss": "cross_entropy"}
    products = config["batches"] * config["probes"] * config["m"]
    variant = f"{init}-{'legacy' if legacy else 'plain'}"
    return Cell(
        table="hesd" if state == "during" else "table2",
        row="lenet",
        column=f"{COLUMNS[state]}/{mode}",
        name=f"lenet-{COLUMNS[state]}-{mode}-{variant}",
        metrics=spectra.metrics(legacy),
        config=config,
        fidelity=lenet_criteria.fidelity_of(settings, state),
        inputs=lenet_criteria.inputs_of(settings, config),
        compute=_compute_spectrum,
        stage=0 if state == "random" else 1,
        seconds=2 + products * config["batch_size"] * SECONDS_AN_IMAGE,
        memory=_memory(config["batch_size"], state),
        shared=None if state == "random" else lenet.training_step(settings),
    )


# Measured on 2 CPU cores with the tuned allocator, which keeps the memory of the training.
SECONDS_AN_IMAGE = 6e-5  # of a product
BYTES_AN_IMAGE = 450_000
BASE_MEMORY = 512 * 2**20  # Python, torch, the data set
TRAINING_MEMORY = 650 * 2**20


def _memory(batch_size: int, state: lenet.Stage) -> int:
    training = 0 if state == "random" else TRAINING_MEMORY
    return BASE_MEMORY + training + batch_size * BYTES_AN_IMAGE


def _accuracy_cell(settings: Settings) -> Cell:
    image_set, config = lenet.images(settings), lenet_criteria.state_config(settings, "trained")
    return Cell(
        table="table2",
        row="lenet",
        column="accuracy",
        name="lenet-accuracy",
        metrics=("accuracy", "training_accuracy"),
        config={**config, "mode": "mean"},
        fidelity=lenet_criteria.fidelity_of(settings, "trained"),
        inputs=f"{image_set.name} {image_set.split}, the batches of the spectra",
        compute=_compute_accuracy,
        stage=1,
        seconds=1,
        memory=_memory(config["batch_size"], "trained"),
        shared=lenet.training_step(settings),
    )


def _compute_spectrum(cell: Cell, settings: Settings) -> list[Record]:
    state, init, legacy = (cell.config[name] for name in ("state", "init", "legacy"))
    _, weights, note = lenet.network(settings, state, init)
    criteria = lenet_criteria.criteria(settings, state, init, legacy)
    check_criteria(criteria)
    check_trace(criteria.spectra)  # LeNet is piecewise linear and has no BatchNorm
    keep = cell.config["mode"] == "eval" and init == "torch" and not legacy
    facts = lenet.batches(settings).facts(weights)
    note = "; ".join(filter(None, [note, "both modes are one function, computed once"]))
    return spectra.criteria_records(cell, settings, criteria, keep, **facts, note=note)


def _compute_accuracy(cell: Cell, settings: Settings) -> list[Record]:
    batches = lenet.batches(settings)
    model, weights, note = lenet.network(settings, "trained")
    x, y = (torch.cat(parts) for parts in zip(*batches.pairs, strict=True))
    share = training.accuracy(model, x, y)
    facts = {
        **batches.facts(weights),
        "note": f"{note}; LeNet's two modes are one function, so this is their mean",
    }
    drawn = cell.estimated("accuracy", percent(share, len(y)), stderr_kind="examples", **facts)
    facts["batch_sha256"] = None  # it is of all images, not of a sample
    whole = lenet.trained(settings).result.accuracy[-1]
    return [drawn, cell.record("training_accuracy", 100 * whole, **facts)]
