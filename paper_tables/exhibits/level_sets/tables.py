"""The table of walks: one group a family, one line a kind of walk."""

from __future__ import annotations

from lla.report.view import Group, Line, Table
from paper_tables.engine.exhibit import Records
from paper_tables.engine.records import Record
from paper_tables.evidence.entries import entries_of
from paper_tables.evidence.legends import legend
from paper_tables.evidence.selection import by_cell, grouped
from paper_tables.exhibits.level_sets.cells import TABLE
from paper_tables.exhibits.level_sets.comparison import OFF
from paper_tables.paper.names import display

COLUMNS = {
    "regularizer_start": "R at the start", "regularizer_end": "R at the end",
    "test_start": "test loss at the start", "test_change": "its change (%)",
    "lowest_change": "lowest (%)", "lowest_at": "at", "accuracy_start": "accuracy at the start (%)",
    "accuracy_end": "at the end (%)", "l2_change": "change of ||theta||^2 (%)",
    "jacobian_change": "change of ||dz/dx||^2 (%)", "kkt": "KKT residual",
    "other_trace_start": "trace along others, start", "other_trace_end": "end",
    OFF: "above the weighted sum (%)", "gradients": "gradients", "rejected": "rejected (%)",
}  # fmt: skip


def tables(records: Records) -> list[Table]:
    """The table."""
    cells = by_cell(records, TABLE)
    groups = tuple(
        _group(row, [cells[place] for place in places])
        for row, places in grouped(cells, lambda place: place[0]).items()
    )
    title = "Walks at constant training loss"
    text = legend(__file__, "walks")
    return [Table("level-sets", title, text, tuple(COLUMNS.values()), groups, ("network", "walk"))]


def _group(row: str, found: list[dict[str, Record]]) -> Group:
    first = next(iter(found[0].values()))
    config = first.config
    lines = tuple(
        Line(next(iter(cell.values())).column, entries_of(cell, COLUMNS, first.fidelity))
        for cell in found
    )
    settings = (
        f"{config['network']}, {config['seeds']} networks; {config['images']} images, noise "
        f"{config['noise']:g}; level {config['level']:g}"
    )
    return Group(display(row), settings, lines, first.fidelity)
