"""Table 3 from records alone: sizes and splits of the data sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lla.report.text import LATEX_NEEDS, latex_float, markdown_table, plain_table
from paper_tables.engine.fidelity import least_faithful
from paper_tables.engine.records import FIDELITIES, VERDICTS, Record, atomic_write
from paper_tables.exhibits.table3.cells import SHAPE, TABLE
from paper_tables.paper import paper_columns, paper_rows, paper_value, tables
from paper_tables.paper.names import display

__all__ = ["HEADERS", "LEGEND", "TABLE", "Shown", "overview", "shown", "write"]

HEADERS = {
    "image": "image (height x width x channels)",
    "size": "images",
    "train": "training images",
    "test": "test images",
}
LEGEND = (
    "Each cell: counted from what the loader gives (the paper's value), verdict, [fidelity]. A "
    "count is *reproduced* if it is equal, and else *differs*; of what is there only in part "
    "nothing is counted but the shape of an image, which is then *reduced*. The shape is that of "
    "the network's input: MNIST's 28x28 padded with zeros, SVHN as grayscale. CINIC-10's three "
    "splits hold 90000 images each, so that training and test images are two thirds of it; "
    "CINIC-10-i leaves out the validation split and every image that comes from CIFAR-10."
)


@dataclass(frozen=True)
class Shown:
    """One cell as it is shown."""

    text: str  # "60000", "32x32x1" or "not run"
    paper: str
    verdict: str | None
    fidelity: str | None
    reason: str | None
    records: tuple[Record, ...]  # that it is made from; none if it was not computed yet


def shown(records: Iterable[Record], row: str, column: str) -> Shown:
    """One cell of the table, of its most faithful records.

    Args:
        records: all published records.
        row: the data set.
        column: of `HEADERS`.
    """
    metrics = SHAPE if column == "image" else ("images",)
    paper = "x".join(paper_value(TABLE, row, column, metric) or "" for metric in metrics)
    mine = [r for r in records if (r.table, r.row, r.column) == (TABLE, row, column)]
    groups = {r.config_hash: {other.metric: other for other in mine
                              if other.config_hash == r.config_hash} for r in mine}  # fmt: skip
    complete = [
        [group[metric] for metric in metrics]
        for group in groups.values()
        if all(metric in group and group[metric].value is not None for metric in metrics)
    ]
    if not complete:
        reason = next((r.reason for r in mine if r.reason), "not computed yet")
        return Shown("not run", paper, "not_run", None, reason, ())
    best = min(complete, key=lambda group: FIDELITIES.index(group[0].fidelity or FIDELITIES[-1]))
    judged = [r.verdict for r in best if r.verdict]
    return Shown(
        text="x".join(f"{r.value:.0f}" for r in best),
        paper=paper,
        verdict=max(judged, key=VERDICTS.index) if len(judged) == len(best) else None,
        fidelity=least_faithful(r.fidelity for r in best),
        reason=None,
        records=tuple(best),
    )


def write(records: Sequence[Record], results: Path, csv: str) -> None:
    """Write `table3.md`, `.tex` and `.csv`.

    Args:
        records: all published records.
        results: where to write.
        csv: the records of the table as CSV.
    """
    title = f"{tables()[TABLE]['where']}: {tables()[TABLE]['title']}"
    notes: list[str] = []
    rows = [
        [display(row), *(_text(shown(records, row, c), notes) for c in paper_columns(TABLE))]
        for row in paper_rows(TABLE)
    ]
    headers = ["data set", *(HEADERS[column] for column in paper_columns(TABLE))]
    numbered = "\n".join(f"{i}. {note}" for i, note in enumerate(notes, start=1))
    parts = [f"# {title}", LEGEND, markdown_table(rows, headers), numbered]
    atomic_write(results / f"{TABLE}.md", "\n\n".join(part for part in parts if part) + "\n")
    caption = f"{title}. {LEGEND}".replace("*", "")
    tex = [LATEX_NEEDS, latex_float(caption, rows, headers, notes)]
    atomic_write(results / f"{TABLE}.tex", "\n".join(tex) + "\n")
    atomic_write(results / f"{TABLE}.csv", csv)


def overview(records: Sequence[Record]) -> str:
    """A short table for the terminal: one line a data set that has records."""
    there = {record.row for record in records if record.table == TABLE}
    sign = {"reproduced": "=", "differs": "x"}
    rows = []
    for row in paper_rows(TABLE):
        if row in there:
            cells = [shown(records, row, column) for column in paper_columns(TABLE)]
            texts = [f"{c.text} [{c.paper}] {sign.get(c.verdict or '', '')}".strip() for c in cells]
            rows.append([display(row), *texts])
    return plain_table(rows, ["data set", *paper_columns(TABLE)])


def _text(cell: Shown, notes: list[str]) -> str:
    """One cell; the reason for not running goes to the notes, each reason once."""
    if cell.reason is not None:
        if cell.reason not in notes:
            notes.append(cell.reason)
        return f"not run, note {notes.index(cell.reason) + 1} ({cell.paper})"
    verdict = f" {cell.verdict}" if cell.verdict else ""
    return f"{cell.text} ({cell.paper}){verdict} [{cell.fidelity}]"
