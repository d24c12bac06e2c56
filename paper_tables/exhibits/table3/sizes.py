"""Sizes and splits of the data sets of Table 3, each from its most faithful records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from paper_tables.engine.fidelity import least_faithful, rank
from paper_tables.engine.records import VERDICTS, Record
from paper_tables.evidence.selection import by_cell
from paper_tables.exhibits.table3.cells import SHAPE, TABLE
from paper_tables.paper import paper_value

HEADERS = {
    "image": "image (height x width x channels)",
    "size": "images",
    "train": "training images",
    "test": "test images",
}


@dataclass(frozen=True)
class Shown:
    """One size, as the table shows it."""

    text: str  # "60000", "32x32x1" or "not run"
    paper: str
    verdict: str | None
    fidelity: str | None
    reason: str | None
    records: tuple[Record, ...]  # its source; empty if it was not computed yet


def shown(records: Iterable[Record], row: str, column: str) -> Shown:
    """One cell of the table, from its most faithful records.

    Args:
        records: all published records.
        row: the data set.
        column: of `HEADERS`.
    """
    metrics = SHAPE if column == "image" else ("images",)
    paper = "x".join(paper_value(TABLE, row, column, metric) or "" for metric in metrics)
    mine = [r for r in records if (r.table, r.row, r.column) == (TABLE, row, column)]
    complete = [
        [found[metric] for metric in metrics]
        for found in by_cell(mine, TABLE).values()
        if found.keys() >= {*metrics}
    ]
    if not complete:
        reason = next((r.reason for r in mine if r.reason), "not computed yet")
        return Shown("not run", paper, "not_run", None, reason, ())
    best = min(complete, key=lambda group: rank(group[0].fidelity))
    judged = [r.verdict for r in best if r.verdict]
    return Shown(
        text="x".join(f"{r.value:.0f}" for r in best),
        paper=paper,
        verdict=max(judged, key=VERDICTS.index) if len(judged) == len(best) else None,
        fidelity=least_faithful(r.fidelity for r in best),
        reason=None,
        records=tuple(best),
    )
