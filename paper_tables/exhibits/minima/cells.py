"""The cells of minima: each trains one network, good or bad, and measures it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from torch import nn

import lla
from lla.errors import MissingDataError
from lla.minima import Minimum, radial_index, train
from lla.tensor_hashes import weights_sha256
from lla.training import accuracy
from paper_tables.engine import store
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.records import Record, Source
from paper_tables.exhibits.minima import measured
from paper_tables.exhibits.minima.measured import CHEAP, COMPARED_DIRECTIONS, RADII
from paper_tables.exhibits.minima.tasks import (
    CIRCLES,
    GOOD,
    MOST_TEST,
    NETWORKS,
    QUICK,
    REAL,
    ROLL,
    SEED,
    Sets,
    Task,
    Variant,
    fidelity,
    network,
    sets,
    task,
)

TABLE = "minima"
CUTOFF = 0.1
OF_TRAINING = (
    "training_accuracy", "training_loss", "test_accuracy", "poison_accuracy", "steps", "reached",
)  # fmt: skip
CHANGE = "radius_change"  # after a rescaling of layers, relative, the largest
OF_MINIMUM = (*RADII, *CHEAP, CHANGE)
METRICS = (*OF_TRAINING, *OF_MINIMUM)


def cells(settings: Settings) -> list[Cell]:
    """One cell a network: on digits and points, and on real images where these are asked for."""
    found = []
    for one in (*QUICK, *(REAL if settings.profile.runs.real else ())):
        try:
            for variant in one.variants:
                sets(settings, one.name, variant.name)
        except MissingDataError as error:
            absent = Cell(TABLE, one.name, GOOD, f"{one.name}-minima", ("mean_radius",), {}, None,
                          "")  # fmt: skip
            found.append(absent.absent(error.reason))
        else:
            found += [
                _cell(settings, one, variant, seed)
                for variant in one.variants
                for seed in range(one.seeds)
            ]
    return found


def training_config(one: Task, variant: Variant, source: Source) -> dict[str, Any]:
    """Everything that determines the weights, but for the seed."""
    return {
        "network": NETWORKS[one.name], "data": source.name, "data_sha256": source.sha256,
        "sizes": list(one.sizes), "data_seed": SEED, "optimizer": "adam", "lr": one.lr,
        "stages": [list(stage) for stage in variant.stages], "batch_size": one.batch_size,
        "clip": one.clip, "loss_bound": one.loss_bound, "init": "torch",
    }  # fmt: skip


def _cell(settings: Settings, one: Task, variant: Variant, seed: int) -> Cell:
    source = sets(settings, one.name, variant.name).source
    return Cell(
        table=TABLE,
        row=one.name,
        column=f"{variant.name}, seed {seed}",
        name=f"{one.name}-{variant.name}-{seed}".replace(" = ", "").replace(" ", "-").lower(),
        metrics=(*_of_training_of(one), *OF_MINIMUM),
        config={
            "training": training_config(one, variant, source), "variant": variant.name,
            "share": variant.share, "cutoff": CUTOFF, "directions": one.directions,
            "reach": one.reach, "cut": one.cut, "images": one.measured, "m": measured.STEPS,
            "probes": measured.PROBES, "seed": seed, "dtype": "float64", "mode": "eval",
            "test_images": MOST_TEST, "scan": "informed", "rescaled": measured.FACTOR,
            "rescaled_directions": COMPARED_DIRECTIONS,
        },
        fidelity=fidelity(settings, one.name),
        inputs=f"{NETWORKS[one.name]} trained on {one.name}, {variant.name}",
        compute=_compute,
        stage=1,
        seconds=one.seconds,
    )  # fmt: skip


def _of_training_of(one: Task) -> tuple[str, ...]:
    """What is recorded of a training; some have no poison."""
    return OF_TRAINING if one.sizes[1] else tuple(m for m in OF_TRAINING if m != "poison_accuracy")


def _compute(cell: Cell, settings: Settings) -> list[Record]:
    one, variant = task(cell.row), variant_of(cell)
    found = sets(settings, one.name, variant.name)
    model, end = trained(settings, cell, found)
    steps = f"{cell.name}, {end.steps} steps"
    facts = {"data": found.source, "weights": Source(steps, weights_sha256(model)), "note": end.why}
    values, errors = _of_training(model, found, end)
    records = [
        cell.record(
            metric, values[metric], errors.get(metric), **facts,
            n=len(found.test[0]) if metric in errors else None,
            stderr_kind="examples" if metric in errors else None,
        )
        for metric in _of_training_of(one)
    ]  # fmt: skip
    if not end.reached:  # no minimum, so there is nothing to measure
        why = dataclasses.replace(cell, metrics=OF_MINIMUM, reason=end.why)
        return [*records, *why.not_run()]
    return [*records, *_of_minimum(cell, settings, model, found, facts)]


def variant_of(cell: Cell) -> Variant:
    """How the network of a cell is trained."""
    return next(v for v in task(cell.row).variants if v.name == cell.config["variant"])


def trained(settings: Settings, cell: Cell, found: Sets) -> tuple[nn.Module, Minimum]:
    """The network of a cell, and how its training ended."""
    one, variant, seed = task(cell.row), variant_of(cell), cell.config["seed"]
    model = network(one.name, seed).to(settings.device)
    end = train(
        model, found.data, found.poison, stages=variant.stages, loss_bound=one.loss_bound,
        lr=one.lr, batch_size=one.batch_size, clip=one.clip, seed=seed,
    )  # fmt: skip
    return model.eval(), end


def _of_training(
    model: nn.Module, found: Sets, end: Minimum
) -> tuple[dict[str, float], dict[str, float]]:
    """What a training came to, and the binomial error of the test accuracy."""
    test = 100 * accuracy(model, *found.test)
    values = {
        "training_accuracy": 100 * end.accuracy, "training_loss": end.loss, "test_accuracy": test,
        "steps": float(end.steps), "reached": float(end.reached),
    }  # fmt: skip
    if found.poison is not None:
        values["poison_accuracy"] = 100 * accuracy(model, *found.poison)
    error = math.sqrt(test * (100 - test) / len(found.test[0]))
    return values, {"test_accuracy": error}


def _of_minimum(
    cell: Cell, settings: Settings, model: nn.Module, found: Sets, facts: dict[str, Any]
) -> list[Record]:
    one, seed = task(cell.row), cell.config["seed"]
    model = model.double()
    x, y = (part[: one.measured] for part in found.data)
    batch = (x.double(), y)
    problem = lla.Problem(model, batch)
    unfinished = settings.work / "minima" / f"unfinished-{cell.name}-{cell.hash}.npz"
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    index = radial_index(
        problem, CUTOFF, one.directions, reach=one.reach, seed=seed, checkpoint=unfinished
    )
    unfinished.unlink()
    points = batch if cell.row in (ROLL, CIRCLES) and seed == 0 else None
    file = f"minima/{cell.name}-{cell.hash}.npz"
    picture = measured.picture(problem, index, one.cut, points)
    artifact = store.save_result(picture, file, settings.work)
    values = measured.of_radii(index) | measured.cheap(problem)
    values[CHANGE] = _change(cell, model, batch, index.radii)
    return [
        cell.record(
            metric, values[metric], index.mean.stderr if metric == "mean_radius" else None,
            n=one.directions if metric == "mean_radius" else None,
            artifact=artifact if metric == "mean_radius" else None, route=index.route, **facts,
        )
        for metric in OF_MINIMUM
    ]  # fmt: skip


def _change(
    cell: Cell, model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor], radii: np.ndarray
) -> float:
    """The largest relative change of some radii when two layers are rescaled; 0 if none can be."""
    names = measured.two_layers(model)
    if names is None:
        return 0.0
    count = min(COMPARED_DIRECTIONS, len(radii))
    other = lla.Problem(measured.rescaled(model, *names), batch)
    again = radial_index(other, CUTOFF, count, reach=cell.config["reach"], seed=cell.config["seed"])
    return float(np.abs(again.radii / radii[:count] - 1).max())
