"""The loss around a trained network on the data it was trained on and on the other data set.

Both planes of a pair (appendix A.1 and A.2 of the paper) have the same axes, so that they are
compared point by point: Gaussian ones under filter normalization, since along the paper's uniform
ones most planes explode (claim X.uniform). Several pairs of axes give the error bars.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import lla
from lla.estimate import Estimate
from lla.landscape import Plane
from paper_tables.engine import store
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.fidelity import cell_fidelity
from paper_tables.engine.profiles import PAPER_EPOCHS
from paper_tables.engine.records import Record
from paper_tables.exhibits.generalization.runs import SIDES
from paper_tables.inputs import image_sets, pair_training, pairs
from paper_tables.inputs.image_sets import Batches
from paper_tables.inputs.pairs import PAIRS, Pair

TABLE = "shift_planes"
HEIGHTS = (
    "median_training",  # median loss on the plane, nats
    "median_generalization",
    "median_change",  # generalization minus training, plane by plane
    "roughness_training",
    "roughness_generalization",
    "roughness_change",
)
IMAGES = {"lenet": 512, "resnet20": 64}
PAPER_POINTS = 41
POINTS, PLANES = 11, 3  # the least, for a picture and for an error bar


def cells(settings: Settings) -> list[Cell]:
    """One cell for each pair: planes around the end of its training run."""
    found = []
    for pair in PAIRS:
        reason = pair_training.missing(settings, pair)
        name = f"{pair.row}-{pair.name}-planes"
        cell = Cell(TABLE, pair.row, pair.name, name, HEIGHTS, {}, None, "", stage=2)
        found.append(cell.absent(reason) if reason else _runnable(settings, pair, cell))
    return found


def roughness(loss: np.ndarray) -> float:
    """How much a plane's loss wriggles from point to point, 0 where its logarithm is linear.

    The root mean square of the second differences of log(loss) along both axes, over the standard
    deviation of log(loss). It has no unit and does not change if the loss is scaled.

    Args:
        loss: positive values [A, B] at equal distances.

    >>> a, b = np.meshgrid(np.arange(5.0), np.arange(5.0))
    >>> round(roughness(np.exp(a + 2 * b)), 6)
    0.0
    """
    heights = np.log(loss)
    bends = [np.diff(heights, 2, axis=axis).ravel() for axis in (0, 1)]
    spread = float(heights.std())
    return float(np.sqrt(np.mean(np.concatenate(bends) ** 2))) / spread if spread > 0 else 0.0


def _runnable(settings: Settings, pair: Pair, cell: Cell) -> Cell:
    found, profile = pairs.images(settings, pair), settings.profile
    epochs = profile.runs.epochs
    points, planes = max(profile.points, POINTS), max(profile.planes, PLANES)
    size = min(IMAGES[pair.row], len(found.train), len(found.other))
    whole = epochs >= PAPER_EPOCHS and points >= PAPER_POINTS
    return dataclasses.replace(
        cell,
        config={
            **pair_training.config_of(settings, pair, epochs),
            "other_split": found.other.split,
            "other_sha256": found.other.sha256,
            "axes": "normal",
            "normalization": "filter",
            "order": 2,
            "points": points,
            "planes": planes,
            "batch_size": size,
            "seed": profile.seed,
        },
        fidelity=cell_fidelity(found.fidelity, whole=whole),
        inputs=f"{pair.row} trained on {found.train.name}, {epochs} epochs, on {size} images "
        f"of it and of {found.other.name}; {planes} planes of {points} x {points}",
        compute=_compute,
        seconds=2 + planes * points**2 * 2 * size * pair_training.SECONDS[pair.row] / 3,
        memory=2 * 2**30,
        shared=pair_training.step(settings, pair),
    )


def _compute(cell: Cell, settings: Settings) -> list[Record]:
    config = cell.config
    pair = next(pair for pair in PAIRS if (pair.row, pair.name) == (cell.row, cell.column))
    found = pairs.images(settings, pair)
    model, weights = pair_training.at_epoch(settings, pair, config["epoch"])
    planes: dict[str, list[Plane]] = {}
    batches: dict[str, Batches] = {}
    for side, image_set in zip(SIDES, (found.train, found.other), strict=True):
        batches[side] = image_sets.draw(
            settings, pair.row, image_set, config["batch_size"], 1, config["seed"]
        )
        planes[side] = lla.landscape.loss_planes(
            lla.Problem(model, batches[side].pairs, mode=config["mode"]),
            config["planes"],
            axes=lla.landscape.RandomAxes(config["axes"]),
            normalization=lla.landscape.Normalization(config["normalization"], config["order"]),
            coordinates=(np.linspace(-0.5, 0.5, config["points"]).tolist(),) * 2,
        )
    facts = {side: batches[side].facts(weights) for side in SIDES}
    for side in SIDES:
        name = f"planes/{cell.name}-{side}-{cell.hash}.npz"
        artifact = store.save_result(planes[side][0], name, settings.work)
        facts[f"median_{side}"] = {**facts[side], "artifact": artifact}
    return _records(cell, planes, facts)


def _records(
    cell: Cell, planes: dict[str, list[Plane]], facts: dict[str, dict[str, Any]]
) -> list[Record]:
    """The records of the cell.

    Args:
        cell: the cell.
        planes: by side.
        facts: fields of the records of a side, or of one metric.
    """
    measures = {
        "median": {s: [float(np.median(p.loss)) for p in planes[s]] for s in SIDES},
        "roughness": {s: [roughness(p.loss) for p in planes[s]] for s in SIDES},
    }
    records = []
    for name, values in measures.items():
        change = np.subtract(values[SIDES[1]], values[SIDES[0]])
        for what, samples in {**values, "change": change}.items():
            metric, side = f"{name}_{what}", what if what in SIDES else SIDES[1]
            mine = {"stderr_kind": "planes", **facts.get(metric, facts[side])}
            records.append(cell.estimated(metric, Estimate.of(samples, 0), **mine))
    return records
