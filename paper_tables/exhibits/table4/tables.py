"""Table 4's differences between new images and ImageNet in the report, against their noise."""

from __future__ import annotations

from collections.abc import Sequence

from lla.report.text import measured
from lla.report.view import Entry, Group, Line, Table
from paper_tables.engine.cells import METRIC_NAMES
from paper_tables.engine.records import Record
from paper_tables.exhibits.table4.text_table import NOISE, TABLE, Difference, differences
from paper_tables.paper.names import display

__all__ = ["table"]

BEYOND = {True: "beyond the noise", False: "within the noise", None: ""}


def table(records: Sequence[Record]) -> Table:
    """New images minus ImageNet: one line a network, the paper's difference and the measured."""
    lines: dict[str, list[Difference]] = {}
    for difference in differences(records):
        lines.setdefault(difference.row, []).append(difference)
    metrics = dict.fromkeys(d.metric for found in lines.values() for d in found)
    group = Group("", "", tuple(_line(row, found) for row, found in lines.items()))
    return Table(
        id=f"{TABLE}-differences",
        title="Table 4: new images minus ImageNet, against the noise",
        legend=NOISE.replace("*", ""),
        columns=tuple(METRIC_NAMES[metric] for metric in metrics),
        groups=(group,),
        files=(f"{TABLE}.md",) if any(record.table == TABLE for record in records) else (),
    )


def _line(row: str, found: Sequence[Difference]) -> Line:
    return Line(display(row), tuple(_cell(difference) for difference in found))


def _cell(d: Difference) -> Entry:
    words = BEYOND[d.paper_beyond]
    paper = f"{d.paper:+.3g}" + (f", {words}" if words else "")
    if d.value is None:
        return Entry("not run", paper, "not_run")
    return Entry(measured(d.value, d.stderr), paper, fidelity=d.fidelity, remark=BEYOND[d.beyond])
