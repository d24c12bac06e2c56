"""Table 4: new images beside ImageNet, and the differences between the two against their noise."""

from __future__ import annotations

from collections.abc import Sequence

from lla.report.text import measured
from lla.report.view import Entry, Group, Line, Table
from paper_tables.engine.cells import METRIC_NAMES
from paper_tables.engine.records import Record
from paper_tables.evidence import criteria_table
from paper_tables.evidence.legends import legend
from paper_tables.evidence.selection import grouped
from paper_tables.exhibits.table4.differences import TABLE, Difference, differences, papers_interval
from paper_tables.paper.names import display

LEGEND = legend(__file__, "table")
NOISE = legend(__file__, "noise")
BEYOND = {True: ", beyond the noise", False: ", within the noise", None: ""}


def tables(records: Sequence[Record]) -> list[Table]:
    """Table 4 and its differences."""
    return [criteria_table.table(records, TABLE, LEGEND), _differences(records)]


def _differences(records: Sequence[Record]) -> Table:
    """New images minus ImageNet: one line a network, with printed and measured differences."""
    found = differences(records)
    lines = tuple(
        Line(display(row), tuple(map(_entry, mine)))
        for row, mine in grouped(found, lambda difference: difference.row).items()
    )
    vit = legend(__file__, "vit", low=papers_interval(56), high=papers_interval(57))
    return Table(
        id=f"{TABLE}-differences",
        title="Table 4: new images minus ImageNet, against the noise",
        legend=f"{NOISE} {vit}",
        columns=tuple(dict.fromkeys(METRIC_NAMES[difference.metric] for difference in found)),
        groups=(Group("", "", lines),),
        heads=("", "network"),
        files=(f"{TABLE}.md",) if any(record.table == TABLE for record in records) else (),
    )


def _entry(d: Difference) -> Entry:
    paper = f"{d.paper:+.3g}{BEYOND[d.paper_beyond]}"
    if d.value is None:
        return Entry("not run", paper, "not_run")
    return Entry(measured(d.value, d.stderr) + BEYOND[d.beyond], paper, fidelity=d.fidelity)
