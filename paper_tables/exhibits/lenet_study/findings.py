"""What the trials of LeNet found, with numbers from records."""

from __future__ import annotations

from collections.abc import Sequence

from lla.report.text import measured
from paper_tables.engine.cells import METRIC_NAMES
from paper_tables.engine.exhibit import Finding, Records
from paper_tables.engine.records import Record
from paper_tables.evidence.legends import legend
from paper_tables.evidence.nearest import agreement, apart, nearest
from paper_tables.exhibits.lenet_study.cells import METRICS, TABLE, TRIALS
from paper_tables.paper import paper_value

CRITERIA = METRICS[:-1]


def findings(records: Records) -> list[Finding]:
    """Which trial comes nearest to each printed criterion, on real data."""
    order = [trial.name for trial in TRIALS]
    mine = [
        record
        for record in records
        if record.table == TABLE and record.value is not None and record.fidelity != "substitute"
    ]
    parts = []
    for metric in CRITERIA:
        tried = [record for record in mine if record.metric == metric]
        printed = paper_value("table2", "lenet", "pretrained/eval", metric)
        if tried and printed is not None:
            tried.sort(key=lambda record: order.index(record.column))
            parts.append(_nearest(metric, tried, printed))
    if not parts:
        return []
    text = legend(__file__, "tried", nearest=" ".join(parts))
    return [Finding("LeNet after training: what was tried", text)]


def _nearest(metric: str, tried: Sequence[Record], printed: str) -> str:
    """The trial nearest to the printed value by ratio, and whether it agrees with it.

    The start is the nearest where no trial comes nearer by more than chance.
    """
    start, near = tried[0], nearest(tried, printed)
    name, first = METRIC_NAMES[metric], measured(start.value, start.stderr)
    if not apart(start, near):
        return (
            f"No trial brings {name} visibly nearer to the printed {printed} than the start, "
            f"{first}, {agreement(start, printed)}."
        )
    return (
        f"{name} is {first} at the start, and nearest to the printed {printed} with "
        f"'{near.column}': {measured(near.value, near.stderr)}, {agreement(near, printed)}."
    )
