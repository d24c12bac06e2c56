"""Table 4 from records alone, with the differences between the two sets against their noise.

The paper has one batch of 64 pictures a set and no error bar. Of an accuracy the noise is known:
k of 64 is binomial. Of a criterion it is taken from the batches measured here, as the scatter of a
single batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy import stats

from lla.report.text import LATEX_NEEDS, latex_float, markdown_table, measured
from paper_tables.engine.cells import METRIC_NAMES
from paper_tables.engine.fidelity import least_faithful
from paper_tables.engine.records import FIDELITIES, Record, atomic_write
from paper_tables.evidence.intervals import difference_width
from paper_tables.paper import paper_rows, tables
from paper_tables.paper.names import display

__all__ = ["COLUMNS", "Difference", "Line", "differences", "lines", "write"]

TABLE = "table4"
COLUMNS = ("imagenet", "ni")
LINES = ("accuracy", "kh1", "kh05", "re", "kh05_density")
PAPER_BATCH = 64

LEGEND = (
    "Each cell: measured ± standard error (the paper's value), verdict, [fidelity]. The paper does "
    "not state the mode; here it is eval mode. *NI*: the paper's 64 pictures are not public, so "
    "other photographs from outside ImageNet stand in for them and are never judged. Standard "
    "errors: of an accuracy binomial, of a criterion over batches. K_H05 depends on the number of "
    "Lanczos steps m and is judged at the paper's m = 100 only."
)
NOISE = (
    "*Beyond the noise*: of an accuracy, by Fisher's exact test at 5 % (the paper's are all k/64); "
    "of a criterion of the paper, the difference is above 1.96 times the scatter of two single "
    "batches measured here (of fewer and smaller pictures where the cell is reduced, so a guess "
    "on the safe side); of a measured one, its 95 % interval (Welch) excludes 0."
)


@dataclass(frozen=True)
class Line:
    """The records of one network at equal settings, by column and metric."""

    row: str
    records: dict[tuple[str, str], Record]  # (column, metric)

    @property
    def first(self) -> Record:
        """Any record."""
        return next(iter(self.records.values()))


@dataclass(frozen=True)
class Difference:
    """New images minus ImageNet, of one metric of one network."""

    row: str
    metric: str
    paper: float
    paper_beyond: bool | None  # the noise; None: nothing says how large that is
    value: float | None  # measured
    stderr: float | None
    beyond: bool | None
    fidelity: str | None


def lines(records: Iterable[Record]) -> list[Line]:
    """The measured records of Table 4 by network and settings, the most faithful first."""
    groups: dict[tuple[object, ...], dict[tuple[str, str], Record]] = {}
    for record in records:
        if record.table == TABLE and record.value is not None:
            key = (record.row, record.config.get("side"), record.batch_size, record.m,
                   record.probes, record.seed, record.dtype)  # fmt: skip
            groups.setdefault(key, {})[record.column, record.metric] = record
    order = {row: i for i, row in enumerate(paper_rows(TABLE))}

    def rank(line: Line) -> tuple[int, int, int, int]:
        first = line.first
        amount = (first.batch_size or 0) * (first.config.get("side") or 0) ** 2
        best = min(FIDELITIES.index(r.fidelity or FIDELITIES[-1]) for r in line.records.values())
        return (order.get(line.row, len(order)), best, -(first.m or 0), -amount)

    return sorted((Line(str(key[0]), found) for key, found in groups.items()), key=rank)


def differences(records: Iterable[Record]) -> list[Difference]:
    """What the paper's two sets differ by, and what was measured, network by network."""
    found: dict[str, Line] = {}
    for line in lines(records):
        found.setdefault(line.row, line)
    return [
        _difference(row, metric, found.get(row))
        for row in paper_rows(TABLE)
        for metric in ("accuracy", "kh1", "kh05", "re")
    ]


def _difference(row: str, metric: str, line: Line | None) -> Difference:
    printed = [float(tables()[TABLE]["rows"][row][column][metric]) for column in COLUMNS]
    paper = printed[1] - printed[0]
    pair = [line.records.get((column, metric)) if line else None for column in COLUMNS]
    first, second = pair
    beyond_paper = _shares_differ(printed, (PAPER_BATCH,) * 2) if metric == "accuracy" else None
    if first is None or second is None or first.value is None or second.value is None:
        return Difference(row, metric, paper, beyond_paper, None, None, None, None)
    value = second.value - first.value
    fidelity = least_faithful(r.fidelity for r in (first, second))
    if first.stderr is None or second.stderr is None or not first.n or not second.n:
        return Difference(row, metric, paper, beyond_paper, value, None, None, fidelity)
    stderr = math.hypot(first.stderr, second.stderr)
    if metric == "accuracy":
        beyond = _shares_differ([first.value, second.value], (first.n, second.n))
    else:
        scatter = math.hypot(*(r.stderr * math.sqrt(r.n) for r in (first, second)))  # type: ignore[operator, arg-type]
        beyond_paper = bool(abs(paper) > 1.96 * scatter)
        width = difference_width((first.stderr, first.n), (second.stderr, second.n))
        beyond = bool(abs(value) > width)
    return Difference(row, metric, paper, beyond_paper, value, stderr, beyond, fidelity)


def _shares_differ(percent: Sequence[float], sizes: Sequence[int]) -> bool:
    """Whether two accuracies differ at 5 %, by Fisher's exact test."""
    right = [round(p / 100 * n) for p, n in zip(percent, sizes, strict=True)]
    table = [[k, n - k] for k, n in zip(right, sizes, strict=True)]
    return bool(stats.fisher_exact(table).pvalue < 0.05)


def write(records: Sequence[Record], results: Path, csv: str) -> None:
    """Write `table4.md`, `.tex` and `.csv`.

    Args:
        records: all published records.
        results: where to write.
        csv: the records of the table as CSV.
    """
    entry = tables()[TABLE]
    title = f"{entry['where']}: {entry['title']}"
    rows, headers, notes = _rows(records)
    compared, names = _compared(records)
    vit = (
        "ViT's 87.5 and 89.1 % are 56 and 57 of 64 pictures: one picture, and nothing more. Exact "
        f"binomial intervals: {_interval(56)} and {_interval(57)}."
    )
    text = "\n\n".join(
        [f"# {title}", LEGEND, markdown_table(rows, headers),
         "\n".join(f"{i}. {note}" for i, note in enumerate(notes, start=1)),
         "## New images minus ImageNet, against the noise", NOISE + " " + vit,
         markdown_table(compared, names)]
    )  # fmt: skip
    atomic_write(results / f"{TABLE}.md", text + "\n")
    caption = f"{title}. {LEGEND}".replace("*", "")
    second = f"New images minus ImageNet, against the noise. {NOISE}".replace("*", "")
    tex = [
        LATEX_NEEDS,
        latex_float(caption, rows, headers, notes),
        latex_float(second, compared, names),
    ]
    atomic_write(results / f"{TABLE}.tex", "\n".join(tex) + "\n")
    atomic_write(results / f"{TABLE}.csv", csv)


def _interval(right: int) -> str:
    low, high = stats.binomtest(right, PAPER_BATCH).proportion_ci()
    return f"{100 * low:.0f} to {100 * high:.0f} %"


def _rows(records: Sequence[Record]) -> tuple[list[list[str]], list[str], list[str]]:
    """The table, one block a network and its settings, its headers, and why some were not run."""
    rows = []
    notes: list[str] = []
    found = lines(records)
    for row in paper_rows(TABLE):
        mine = [line for line in found if line.row == row]
        if not mine:
            notes.append(_reason(records, row))
            rows.append([display(row), f"not run, note {len(notes)}", "", *_printed(row)])
        for line in mine:
            for i, metric in enumerate(LINES):
                if any((column, metric) in line.records for column in COLUMNS):
                    texts = [_cell(line.records.get((column, metric))) for column in COLUMNS]
                    head = [display(row), _settings(line)] if i == 0 else ["", ""]
                    rows.append([*head, METRIC_NAMES[metric], *texts])
    return rows, ["network", "settings", "", "ImageNet", "NI"], notes


def _printed(row: str) -> list[str]:
    """What the paper prints about a network that was not run."""
    texts = []
    for column in COLUMNS:
        cell = tables()[TABLE]["rows"][row][column]
        texts.append("(" + ", ".join(cell[m] for m in LINES if m in cell) + ")")
    return texts


def _reason(records: Iterable[Record], row: str) -> str:
    found = [r.reason for r in records if r.table == TABLE and r.row == row and r.reason]
    return found[0] if found else "not computed yet"


def _settings(line: Line) -> str:
    first = line.first
    batches = {c: r.batches for (c, _), r in sorted(line.records.items())}
    amount = " and ".join(str(batches[c]) for c in COLUMNS if c in batches)
    return (
        f"{first.config.get('model')}, {amount} batches of {first.batch_size} at "
        f"{first.config.get('side')} px, m {first.m}, {first.probes} probes, seed {first.seed}"
    )


def _cell(record: Record | None) -> str:
    if record is None:
        return "—"
    paper = f" ({record.paper_value})" if record.paper_value is not None else ""
    verdict = f" {record.verdict}" if record.verdict else ""
    return f"{measured(record.value, record.stderr)}{paper}{verdict} [{record.fidelity}]"


def _compared(records: Sequence[Record]) -> tuple[list[list[str]], list[str]]:
    rows = []
    word = {True: "yes", False: "no", None: "not known"}
    for i, d in enumerate(differences(records)):
        ours = ["not run", ""]
        if d.value is not None:
            ours = [f"{measured(d.value, d.stderr)} [{d.fidelity}]", word[d.beyond]]
        name = display(d.row) if i % 4 == 0 else ""
        rows.append([name, METRIC_NAMES[d.metric], f"{d.paper:+.3g}", word[d.paper_beyond], *ours])
    headers = ["network", "", "the paper's", "beyond the noise", "measured", "beyond the noise"]
    return rows, headers
