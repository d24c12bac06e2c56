"""The table of contradictions."""

from __future__ import annotations

from lla.report.text import csv_table, measured
from lla.report.view import Entry, Group, Line, Table
from paper_tables.engine.cells import METRIC_NAMES
from paper_tables.engine.contradictions import Contradiction, contradictions
from paper_tables.engine.exhibit import Records
from paper_tables.engine.pages import frame as record_frame
from paper_tables.evidence.entries import trace
from paper_tables.paper.names import display

COLUMNS = ("published", "measured", "standard errors apart", "samples", "settings")
LEGEND = (
    "Measured values from which the printed one lies outside the 95 % interval; the most distant "
    "come first. Of several measurements of one value the most faithful counts, and of these that "
    "of the most batches. Where they are [reduced], they were measured with fewer examples, steps "
    "or epochs than the paper's: then a difference is a reason to measure again, not proof that "
    "the paper is wrong. Distances are in standard errors, widened for few samples by Student's t. "
    "Categories of loss planes, which have no standard error, stand in Table 1."
)


def tables(records: Records) -> list[Table]:
    """One table, a group for each network and a line for each value."""
    groups: dict[str, list[Line]] = {}
    for found in contradictions(records):
        groups.setdefault(found.record.row, []).append(_line(found))
    made = tuple(Group(display(row), "", tuple(lines)) for row, lines in groups.items())
    return [
        Table("contradictions", "Values that differ from the printed ones", LEGEND, COLUMNS, made,
              heads=("network", "value"), files=("contradictions.md", "contradictions.csv"),
              absence="nothing differs")
    ]  # fmt: skip


def pages(records: Records) -> dict[str, str]:
    """The values of the table for programs: their records, with the distance in standard errors."""
    found = contradictions(records)
    frame = record_frame([each.record for each in found])
    frame.insert(0, "errors_apart", [each.errors for each in found])
    return {"contradictions.csv": csv_table(frame)}


def _line(found: Contradiction) -> Line:
    r = found.record
    metric = METRIC_NAMES.get(r.metric, r.metric)
    settings = f"{r.batches} x {r.batch_size}, m {r.m}, {r.dtype}"
    entries = (
        Entry(r.paper_value or ""),
        Entry(measured(r.value, r.stderr), fidelity=r.fidelity, traces=(trace(r),)),
        Entry(f"{found.errors:.1f}"),
        Entry(f"{r.n} {r.stderr_kind}" if r.n else ""),
        Entry(settings),
    )
    return Line(f"{r.table} {r.column} {metric}", entries)
