"""The records of one network, and verdicts on one of its numbers."""

from __future__ import annotations

from paper_tables.engine.exhibit import Records, Verdict
from paper_tables.engine.fidelity import rank
from paper_tables.engine.records import Record
from paper_tables.evidence.criteria import half_width, missing, value_of
from paper_tables.evidence.intervals import decided
from paper_tables.evidence.selection import by_cell

Cell = dict[str, Record]


def cell_of(records: Records, table: str, row: str, column: str | None = None) -> Cell:
    """The records of a cell by metric, those of the most faithful settings.

    Args:
        records: all published records.
        table: its table.
        row: its row.
        column: its column; None takes any.

    Raises:
        MissingError: it was not computed.
    """
    found = [
        cell
        for (own, place, _), cell in by_cell(records, table).items()
        if own == row and column in (None, place)
    ]
    if not found:
        hint = (
            " (--real-data takes the data sets that are found)" if row.startswith("mnist") else ""
        )
        raise missing(f"{row}{'' if column is None else f' {column}'}{hint}")
    return min(found, key=lambda cell: rank(next(iter(cell.values())).fidelity))


def layers_in(cell: Cell, name: str) -> dict[str, Record]:
    """One number of all layers, by layer."""
    return {
        metric.removeprefix(f"{name} "): record
        for metric, record in cell.items()
        if metric.startswith(f"{name} ")
    }


def above(record: Record, limit: float) -> Verdict:
    """Whether a number lies above a limit, by its 95 % interval."""
    half = half_width(record)
    return "undecided" if half is None else decided(value_of(record) - limit, half)


def within(record: Record, low: float, high: float) -> Verdict:
    """Whether a number lies between two limits, by its 95 % interval."""
    half, value = half_width(record), value_of(record)
    if half is None:
        return "undecided"
    if low <= value - half and value + half <= high:
        return "holds"
    return "fails" if value + half < low or value - half > high else "undecided"
