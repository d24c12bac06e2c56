"""The trials of LeNet, one line each."""

from __future__ import annotations

from collections.abc import Sequence

from lla.report.view import Group, Line, Table
from paper_tables.engine.cells import METRIC_NAMES
from paper_tables.engine.records import Record
from paper_tables.evidence.entries import entries_of
from paper_tables.evidence.legends import legend
from paper_tables.evidence.selection import grouped
from paper_tables.exhibits.lenet_study.cells import BATCHES, EPOCHS, IMAGES, METRICS, TABLE, TRIALS
from paper_tables.paper import paper_value
from paper_tables.paper.names import display


def tables(records: Sequence[Record]) -> list[Table]:
    """The study, if there are records of it."""
    mine = [record for record in records if record.table == TABLE and record.value is not None]
    by_input = grouped(mine, lambda record: record.fidelity)
    groups = []
    for fidelity, found in by_input.items():
        cells = grouped(found, lambda record: record.column)
        lines = [
            Line(trial.name, entries_of({r.metric: r for r in cells[trial.name]}, METRICS))
            for trial in TRIALS
            if trial.name in cells
        ]
        data = display(found[0].data.name) if found[0].data else ""
        groups.append(Group(data, "", tuple(lines), fidelity))
    if not groups:
        return []
    printed = {m: paper_value("table2", "lenet", "pretrained/eval", m) for m in METRICS[:-1]}
    return [
        Table(
            id=TABLE,
            title="LeNet after training: what was tried for the paper's criteria",
            legend=legend(
                __file__, "table", images=IMAGES, epochs=EPOCHS, batches=BATCHES, **printed
            ),
            columns=tuple(METRIC_NAMES[metric] for metric in METRICS),
            groups=tuple(groups),
            heads=("data", "trial"),
        )
    ]
