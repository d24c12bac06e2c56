"""What the radial index costs: loss evaluations and seconds of both scans, on digits."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import lla
from lla.minima import radial_index
from lla.tensor_hashes import weights_sha256
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.records import Record, Source
from paper_tables.exhibits.minima.cells import CUTOFF, trained, training_config
from paper_tables.exhibits.minima.tasks import DIGITS, Variant, sets

TABLE = "minima_scans"
DIRECTIONS, REACH = 250, 100.0
METRICS = (
    "seconds_informed", "seconds_full", "seconds_loop", "evaluations_informed", "evaluations_full",
    "difference",
)  # fmt: skip


def cells(settings: Settings) -> list[Cell]:
    """The good minimum of digits, and the worst."""
    return [_cell(settings, variant) for variant in (DIGITS.variants[0], DIGITS.variants[-1])]


def _cell(settings: Settings, variant: Variant) -> Cell:
    source = sets(settings, DIGITS.name, variant.name).source
    return Cell(
        table=TABLE,
        row=DIGITS.name,
        column=variant.name,
        name=f"{DIGITS.name}-scans-{variant.name}".replace(" = ", ""),
        metrics=METRICS,
        config={
            "training": training_config(DIGITS, variant, source), "variant": variant.name,
            "cutoff": CUTOFF, "directions": DIRECTIONS, "seed": 0, "dtype": "float32",
            "mode": "eval", "reach": REACH,
        },
        fidelity="reduced",  # how evaluations compare holds for any data
        inputs=f"{DIRECTIONS} directions of a minimum of {DIGITS.name}, {variant.name}",
        compute=_compute,
        stage=2,
        seconds=30,
    )  # fmt: skip


def _compute(cell: Cell, settings: Settings) -> list[Record]:
    found = sets(settings, DIGITS.name, cell.config["variant"])
    model, end = trained(settings, cell, found)
    problem = lla.Problem(model, found.data)
    runs = {
        name: _timed(problem, **how)
        for name, how in {
            "informed": {"scan": "informed"}, "full": {"scan": "full"},
            "loop": {"scan": "informed", "route": "loop"},
        }.items()
    }  # fmt: skip
    (informed, one), (full, two) = runs["informed"], runs["full"]
    values = (
        one, two, runs["loop"][1], float(informed.evaluations), float(full.evaluations),
        float(np.abs(informed.radii / full.radii - 1).max()),
    )  # fmt: skip
    weights = Source(f"{cell.name}, {end.steps} steps", weights_sha256(model))
    note = f"routes {informed.route} and {full.route}, chosen in the run"
    return [
        cell.record(metric, value, data=found.source, weights=weights, note=note)
        for metric, value in zip(METRICS, values, strict=True)
    ]


def _timed(problem: lla.Problem, **how: Any) -> tuple[lla.minima.RadialIndex, float]:
    """A radial index, and the seconds that it took."""
    begin = time.perf_counter()
    found = radial_index(problem, CUTOFF, DIRECTIONS, reach=REACH, **how)
    return found, time.perf_counter() - begin
