"""The table of the panel, laid out as Table 2."""

from __future__ import annotations

from lla.report.view import Group, Line, Table
from paper_tables.engine.cells import METRIC_NAMES
from paper_tables.engine.exhibit import Records
from paper_tables.engine.records import Record
from paper_tables.evidence.entries import entries_of
from paper_tables.evidence.selection import grouped
from paper_tables.exhibits.panel.cells import MEMBERS, PROBES, STEPS, TABLE
from paper_tables.paper.names import display

METRICS = ("kh1", "kh05", "re", "negative_share", "loss", "accuracy")
LEGEND = (
    "The panel tests claims about every CNN on networks with published weights, which the paper "
    "does not have, but for SqueezeNet 1.1: one that disagrees refutes such a claim, and the share "
    "of networks that agree has an interval."
)
SETTINGS = (
    f"The settings give batches x images of training; {PROBES} probe a batch, m {STEPS}; errors "
    "over batches. Accuracy: share of these images that the trained network recognises. New "
    "images: photographs with labels of ImageNet that are not from it."
)


def tables(records: Records) -> list[Table]:
    """One table, a group for each network and a line for each state and mode."""
    mine = [r for r in records if r.table == TABLE and r.value is not None]
    groups = []
    for member in MEMBERS:
        of_member = (r for r in mine if r.row == member.row)
        by_size = grouped(of_member, lambda r: (r.batches, r.batch_size))
        for (batches, size), same in by_size.items():
            lines = tuple(
                Line(column, entries_of({r.metric: r for r in cell}, METRICS, "replication"))
                for column, cell in grouped(same, _line).items()
            )
            settings = f"{display(member.data)}, {batches} x {size}"
            groups.append(Group(member.row, settings, lines, fidelity="replication"))
    names = tuple(METRIC_NAMES[metric] for metric in METRICS)
    return [
        Table(TABLE, "A panel of other networks", f"{LEGEND} {SETTINGS}", names, tuple(groups),
              heads=("network", "weights/mode"), files=(f"{TABLE}.md",))
    ]  # fmt: skip


def _line(record: Record) -> str:
    """The name of a record's line; an accuracy stands beside the criteria of trained weights."""
    if record.column == "accuracy":
        return "pretrained/eval"
    return record.column.replace("/accuracy", "/eval")
