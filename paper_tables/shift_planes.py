"""The loss around a trained network on the data it was trained on and on the other data set.

Both planes of a pair (appendix A.1 and A.2 of the paper) have the same axes, so that they are
compared point by point: Gaussian ones under filter normalization, since along the paper's uniform
ones most planes explode (claim X.uniform). Several pairs of axes give the error bars.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import lla
from lla import data
from lla.estimate import Estimate
from lla.landscape import Plane
from lla.records import Record, Source
from paper_tables import generalization, lenet, pairs, store
from paper_tables.cells import Cell, Settings, least_faithful
from paper_tables.generalization import SIDES
from paper_tables.pairs import PAIRS, Pair
from paper_tables.profiles import PAPER_EPOCHS

__all__ = ["METRICS", "TABLE", "cells", "roughness"]

TABLE = "shift_planes"
METRICS = (
    "median_training",  # of the loss on the plane, nats
    "median_generalization",
    "median_change",  # generalization minus training, plane by plane
    "roughness_training",
    "roughness_generalization",
    "roughness_change",
)
IMAGES = {"lenet": 512, "resnet20": 64}
PAPER_POINTS = 41
POINTS, PLANES = 11, 3  # at least: they are pictures, and have an error bar


def cells(settings: Settings) -> list[Cell]:
    """One cell a pair: the end of its training run."""
    found = []
    for pair in PAIRS:
        reason = generalization.missing(settings, pair)
        found.append(_not_run(pair, reason) if reason else _cell(settings, pair))
    return found


def roughness(loss: np.ndarray) -> float:
    """How much a plane's loss wriggles from point to point, 0 where its logarithm is linear.

    The root mean square of the second differences of log(loss) along both axes, over the standard
    deviation of log(loss): no unit, and unchanged if the loss is multiplied by a constant.

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


def _not_run(pair: Pair, reason: str) -> Cell:
    return Cell(
        TABLE, pair.row, pair.name, f"{pair.row}-{pair.name}-planes", METRICS,
        {"row": pair.row, "column": pair.name}, None, "", reason=reason, stage=2,
    )  # fmt: skip


def _cell(settings: Settings, pair: Pair) -> Cell:
    found, profile = pairs.images(settings, pair), settings.profile
    epochs = profile.runs.epochs
    points, planes = max(profile.points, POINTS), max(profile.planes, PLANES)
    size = min(IMAGES[pair.row], len(found.train), len(found.other))
    faithful = epochs >= PAPER_EPOCHS and points >= PAPER_POINTS
    return Cell(
        table=TABLE,
        row=pair.row,
        column=pair.name,
        name=f"{pair.row}-{pair.name}-planes",
        metrics=METRICS,
        config={
            "training": generalization.training_config(settings, pair),
            "trained_on": found.train.name,
            "other": found.other.name,
            "other_split": found.other.split,
            "other_sha256": found.other.sha256,
            "epoch": epochs,
            "epochs": epochs,
            "mode": "eval",
            "axes": "normal",
            "normalization": "filter",
            "order": 2,
            "points": points,
            "planes": planes,
            "batch_size": size,
            "seed": settings.profile.seed,
            "dtype": "float32",
        },
        fidelity=least_faithful((found.fidelity, "paper" if faithful else "reduced")),
        inputs=f"{pair.row} trained on {found.train.name}, {epochs} epochs, on {size} images "
        f"of it and of {found.other.name}; {planes} planes of {points} x {points}",
        compute=_compute,
        stage=2,
        seconds=2 + planes * points**2 * 2 * size * generalization.COSTS[pair.row][0] / 3,
        memory=2 * 2**30,
        shared=generalization.training_step(settings, pair),
    )


def _compute(cell: Cell, settings: Settings) -> list[Record]:
    config = cell.config
    pair = next(pair for pair in PAIRS if (pair.row, pair.name) == (cell.row, cell.column))
    found = pairs.images(settings, pair)
    model, weights = generalization.at_epoch(settings, pair, config["epoch"])
    planes: dict[str, list[Plane]] = {}
    digests, sources = [], {}
    for side, image_set in zip(SIDES, (found.train, found.other), strict=True):
        batch = data.batches(
            image_set, config["batch_size"], 1, seed=config["seed"], device=settings.device,
            **pairs.preprocessing(pair.row),
        )  # fmt: skip
        digests.append(lenet.batches_sha256(batch))
        sources[side] = Source(image_set.name, image_set.sha256)
        planes[side] = lla.landscape.loss_planes(
            lla.Problem(model, batch, mode=config["mode"]),
            config["planes"],
            axes=lla.landscape.RandomAxes(config["axes"]),
            normalization=lla.landscape.Normalization(config["normalization"], config["order"]),
            coordinates=(np.linspace(-0.5, 0.5, config["points"]).tolist(),) * 2,
            progress=settings.progress,
        )
    return _records(cell, settings, planes, sources, {"weights": weights}, digests)


def _records(
    cell: Cell,
    settings: Settings,
    planes: dict[str, list[Plane]],
    sources: dict[str, Source],
    facts: dict[str, Any],
    digests: list[str],
) -> list[Record]:
    measures = {
        "median": {s: [float(np.median(p.loss)) for p in planes[s]] for s in SIDES},
        "roughness": {s: [roughness(p.loss) for p in planes[s]] for s in SIDES},
    }
    records = []
    for name, values in measures.items():
        changes = np.subtract(values[SIDES[1]], values[SIDES[0]]).tolist()
        for what, samples in (*values.items(), ("change", changes)):
            estimate = Estimate.of(samples, 0)
            side = SIDES.index(what) if what in SIDES else 1
            keep = name == "median" and what in SIDES
            records.append(
                cell.record(
                    f"{name}_{what}",
                    estimate.value,
                    estimate.stderr,
                    n=estimate.n,
                    stderr_kind="planes",
                    data=sources[SIDES[side]],
                    batch_sha256=digests[side],
                    artifact=store.save_result(
                        planes[what][0], f"planes/{cell.name}-{what}-{cell.hash}.npz", settings.work
                    )
                    if keep
                    else None,
                    **facts,
                )
            )
    return records
