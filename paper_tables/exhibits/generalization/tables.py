"""The training runs of section 4: what was measured on both data sets, by epoch."""

from __future__ import annotations

from collections.abc import Sequence

from lla.report.view import Entry, Group, Line, Table
from paper_tables.engine.cells import METRIC_NAMES
from paper_tables.engine.records import Record
from paper_tables.evidence import criteria_table
from paper_tables.evidence.entries import measured_entry
from paper_tables.evidence.legends import legend
from paper_tables.exhibits.generalization.runs import SIDES, TABLE, Run, runs
from paper_tables.exhibits.generalization.shift_planes import TABLE as PLANES

SHOWN = ("accuracy", "loss", "kh05", "kh1", "re")
SHORT = {"training": "training", "generalization": "other"}

LEGEND = legend(__file__, "runs")

PLANES_TITLE = "Appendix A.1 and A.2: the loss around trained networks on both data sets"


def tables(records: Sequence[Record]) -> list[Table]:
    """The runs, and the planes on both data sets if there are records of them."""
    there = any(record.table == PLANES for record in records)
    planes = criteria_table.table(records, PLANES, legend(__file__, "planes"), PLANES_TITLE)
    return [_runs(records), *([planes] if there else [])]


def _runs(records: Sequence[Record]) -> Table:
    """One group a run, one line an epoch."""
    return Table(
        id=TABLE,
        title="Section 4: training runs on two data sets",
        legend=LEGEND,
        columns=tuple(
            f"{METRIC_NAMES[metric]}, {SHORT[side]}" for metric in SHOWN for side in SIDES
        ),
        groups=tuple(_group(run) for run in runs(records)),
        heads=("run", ""),
        folded=True,
        files=(f"{TABLE}.csv",) if any(record.table == TABLE for record in records) else (),
    )


def _group(run: Run) -> Group:
    epochs = sorted({epoch for _, metric, epoch in run.records if metric in SHOWN[2:]})
    lines = tuple(Line(f"epoch {epoch}", _entries(run, epoch)) for epoch in epochs)
    return Group(run.name, f"{run.length} epochs", lines, run.fidelity)


def _entries(run: Run, epoch: int) -> tuple[Entry | None, ...]:
    found = [run.records.get((side, metric, epoch)) for metric in SHOWN for side in SIDES]
    return tuple(None if record is None else measured_entry(record) for record in found)
