"""The page of faults: what each does, and both numbers."""

from __future__ import annotations

from lla.report.view import Entry, Group, Line, Table
from paper_tables.engine.exhibit import Records
from paper_tables.exhibits.refutations.cells import TABLE
from paper_tables.exhibits.refutations.faults import FAULTS

COLUMNS = ("what it does", "quantity", "right", "with the fault")
LEGEND = (
    "Faults that were seen in public programs of this field, by the kind of program. Each is "
    "imitated in at most twenty lines (paper_tables/exhibits/refutations/faults.py), and a test "
    "compares the right number with an independent one and shows how far the other is from it."
)


def tables(records: Records) -> list[Table]:
    """One table with a line for each fault that was computed."""
    values = {(r.row, r.metric): r.value for r in records if r.table == TABLE}
    groups = tuple(
        Group(
            fault.name,
            fault.program,
            (
                Line("", (
                    Entry(fault.fault), Entry(fault.quantity),
                    *(Entry(f"{values[fault.name, metric]:.4g}") for metric in ("right", "wrong")),
                )),
            ),
        )
        for fault in FAULTS
        if values.get((fault.name, "wrong")) is not None
    )  # fmt: skip
    heads = ("fault", "")
    return [
        Table(TABLE, "Faults of public code", LEGEND, COLUMNS, groups, heads=heads, folded=True)
    ]
