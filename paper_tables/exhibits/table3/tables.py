"""Table 3: sizes and splits of the data sets."""

from __future__ import annotations

from collections.abc import Sequence

from lla.report.view import Entry, Group, Line, Table
from paper_tables import paper
from paper_tables.engine.records import Record
from paper_tables.evidence.entries import trace
from paper_tables.evidence.legends import legend
from paper_tables.exhibits.table3.sizes import HEADERS, TABLE, Shown, shown
from paper_tables.paper.names import display

LEGEND = legend(__file__, "table")


def tables(records: Sequence[Record]) -> list[Table]:
    """Table 3, one line a data set."""
    columns = paper.paper_columns(TABLE)
    entry = paper.tables()[TABLE]
    lines = tuple(
        Line(display(row), tuple(_entry(shown(records, row, column)) for column in columns))
        for row in paper.paper_rows(TABLE)
    )
    return [
        Table(
            id=TABLE,
            title=f"{entry['where']}: {entry['title']}",
            legend=LEGEND,
            columns=tuple(HEADERS[column] for column in columns),
            groups=(Group("", "", lines),),
            heads=("", "data set"),
            files=tuple(f"{TABLE}.{kind}" for kind in ("md", "csv", "tex"))
            if any(record.table == TABLE for record in records)
            else (),
        )
    ]


def _entry(size: Shown) -> Entry:
    return Entry(
        text=size.text,
        paper=size.paper,
        verdict=size.verdict,
        fidelity=size.fidelity,
        remark=(size.reason or "").partition(":")[0],  # the part after the colon says what to do
        reason=size.reason or "",
        traces=tuple(trace(record, record.metric) for record in size.records),
    )
