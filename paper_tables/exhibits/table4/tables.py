"""Table 4: new images beside ImageNet, and the differences between the two against their noise."""

from __future__ import annotations

from collections.abc import Sequence

from lla.report.text import measured
from lla.report.view import Entry, Group, Line, Table
from paper_tables.engine.cells import METRIC_NAMES
from paper_tables.engine.records import Record
from paper_tables.evidence import criteria_table
from paper_tables.evidence.selection import grouped
from paper_tables.exhibits.table4.cells import TABLE
from paper_tables.exhibits.table4.differences import Difference, differences, papers_interval
from paper_tables.paper.names import display

LEGEND = (
    "The paper does not state the mode; here it is eval mode. NI: the paper's 64 pictures are not "
    "public, so other photographs from outside ImageNet stand in for them and are never judged. "
    "Standard errors: of an accuracy binomial, of a criterion over batches."
)
NOISE = (
    "The paper's difference stands beside the measured one. Beyond the noise: of an accuracy, by "
    "Fisher's exact test at 5 % (the paper's are all k/64); of a criterion of the paper, the "
    "difference is above 1.96 "
    "times the scatter of two single batches measured here (of fewer and smaller pictures where "
    "the cell is reduced, so a guess on the safe side); of a measured one, its 95 % interval "
    "(Welch) excludes 0. Where nothing is said, the noise is not known."
)
BEYOND = {True: ", beyond the noise", False: ", within the noise", None: ""}


def tables(records: Sequence[Record]) -> list[Table]:
    """Table 4 and its differences."""
    return [criteria_table.table(records, TABLE, LEGEND), _differences(records)]


def _differences(records: Sequence[Record]) -> Table:
    """New images minus ImageNet: one line a network, the paper's difference and the measured."""
    found = differences(records)
    lines = tuple(
        Line(display(row), tuple(map(_entry, mine)))
        for row, mine in grouped(found, lambda difference: difference.row).items()
    )
    vit = (
        "ViT's 87.5 and 89.1 % are 56 and 57 of 64 pictures: one picture, and nothing more. Exact "
        f"binomial intervals: {papers_interval(56)} and {papers_interval(57)}."
    )
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
