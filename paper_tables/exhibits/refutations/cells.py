"""A cell for each fault: the right number and the wrong one."""

from __future__ import annotations

from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.records import Record
from paper_tables.exhibits.refutations.faults import FAULTS

TABLE = "refutations"
METRICS = ("right", "wrong")


def cells(_: Settings) -> list[Cell]:
    """One cell for each fault."""
    return [
        Cell(
            table=TABLE,
            row=fault.name,
            column=fault.quantity,
            name=fault.name.replace(" ", "-"),
            metrics=METRICS,
            config={"fault": fault.name, "dtype": "float64"},
            fidelity="reduced",  # what is shown holds everywhere
            inputs="a small network or a prescribed spectrum",
            compute=_compute,
            seconds=1,
        )
        for fault in FAULTS
    ]


def _compute(cell: Cell, _: Settings) -> list[Record]:
    fault = next(each for each in FAULTS if each.name == cell.row)
    return [
        cell.record(metric, value) for metric, value in zip(METRICS, fault.numbers(), strict=True)
    ]
