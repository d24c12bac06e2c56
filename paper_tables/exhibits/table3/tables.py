"""Table 3 in the report: sizes and splits of the data sets."""

from __future__ import annotations

from collections.abc import Sequence

from lla.report.view import Entry, Group, Line, Table
from paper_tables.engine.records import Record
from paper_tables.evidence.entries import trace
from paper_tables.exhibits.table3.text_table import HEADERS, LEGEND, TABLE, Shown, shown
from paper_tables.paper import paper_columns, paper_rows, tables
from paper_tables.paper.names import display

__all__ = ["table"]


def table(records: Sequence[Record]) -> Table:
    """One line a data set."""
    columns = paper_columns(TABLE)
    entry = tables()[TABLE]
    return Table(
        id=TABLE,
        title=f"{entry['where']}: {entry['title']}",
        legend=LEGEND.replace("*", ""),
        columns=tuple(HEADERS[column] for column in columns),
        groups=(Group("", "", tuple(_line(records, row, columns) for row in paper_rows(TABLE))),),
        files=tuple(f"{TABLE}.{kind}" for kind in ("md", "csv", "tex"))
        if any(record.table == TABLE for record in records)
        else (),
    )


def _line(records: Sequence[Record], row: str, columns: Sequence[str]) -> Line:
    return Line(display(row), tuple(_cell(shown(records, row, column)) for column in columns))


def _cell(cell: Shown) -> Entry:
    return Entry(
        text=cell.text,
        paper=cell.paper,
        verdict=cell.verdict,
        fidelity=cell.fidelity,
        remark=(cell.reason or "").partition(":")[0],  # what to do then stands in the files
        traces=tuple(trace(record, record.metric) for record in cell.records),
    )
