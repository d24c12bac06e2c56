"""The radial index of ellipsoids of known volume."""

from __future__ import annotations

import numpy as np

from lla.minima import calibration
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.records import Record

TABLE = "minima_ellipsoids"
SIZES = (2, 10, 100, 3488)
SPREADS = (0.0, 0.5, 1.0, 2.0)
DIRECTIONS = (250, 2000)
SEEDS = 8  # of the directions
COLUMN = "radial index"
TRUE = "true"  # log10 of the volume


def shortfall(spread: float, directions: int) -> str:
    """How a record names by how much the index of an ellipsoid is too small."""
    return f"spread {spread:g}, {directions} directions"


METRICS = (TRUE, *(shortfall(spread, count) for count in DIRECTIONS for spread in SPREADS))


def cells(settings: Settings) -> list[Cell]:
    """One cell a number of dimensions."""
    return [_cell(n) for n in SIZES]


def row(n: int) -> str:
    """The row of a number of dimensions."""
    return f"n = {n}"


def _cell(n: int) -> Cell:
    return Cell(
        table=TABLE,
        row=row(n),
        column=COLUMN,
        name=f"ellipsoids-{n}",
        metrics=METRICS,
        config={"n": n, "spreads": SPREADS, "directions": DIRECTIONS, "seeds": SEEDS},
        fidelity="reduced",  # the work has no such check
        inputs=f"ellipsoids in {n} dimensions",
        compute=_compute,
        seconds=3,
    )


def _compute(cell: Cell, settings: Settings) -> list[Record]:
    n = cell.config["n"]
    records = [cell.record(TRUE, calibration(n, 1, 0.0).true)]
    for count in DIRECTIONS:
        for spread in SPREADS:
            found = [calibration(n, count, spread, seed).shortfall for seed in range(SEEDS)]
            error = float(np.std(found, ddof=1)) / SEEDS**0.5
            name = shortfall(spread, count)
            records.append(cell.record(name, float(np.mean(found)), error, n=SEEDS))
    return records
