"""The differences between the two sets of Table 4, compared with their noise.

The paper has one batch of 64 pictures a set and no error bar. The noise of an accuracy is known:
k of 64 is binomial. The noise of a criterion is the scatter of a single batch, from the batches
measured here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import stats

from paper_tables.engine.fidelity import least_faithful
from paper_tables.engine.records import Record
from paper_tables.evidence.intervals import difference_width
from paper_tables.evidence.selection import best_rank, grouped
from paper_tables.paper import paper_rows, tables

PAPER_BATCH = 64

TABLE = "table4"
COLUMNS: tuple[Literal["imagenet", "ni"], ...] = ("imagenet", "ni")


@dataclass(frozen=True)
class Difference:
    """One metric of one network: its value on new images minus that on ImageNet."""

    row: str
    metric: str
    paper: float
    paper_beyond: bool | None  # whether it exceeds the noise; None: the noise is not known
    value: float | None = None  # measured
    stderr: float | None = None
    beyond: bool | None = None
    fidelity: str | None = None


def by_settings(records: Iterable[Record]) -> list[list[Record]]:
    """The measured records of Table 4 by network and settings, the most faithful first."""
    mine = (record for record in records if record.table == TABLE and record.value is not None)
    groups = grouped(
        mine, lambda r: (r.row, r.config.get("side"), r.batch_size, r.m, r.probes, r.seed, r.dtype)
    ).values()

    def rank(group: list[Record]) -> tuple[int, int, int, int]:
        first = group[0]
        amount = (first.batch_size or 0) * (first.config.get("side") or 0) ** 2
        row = paper_rows(TABLE).index(first.row)
        return (row, best_rank(group), -(first.m or 0), -amount)

    return sorted(groups, key=rank)


def differences(records: Iterable[Record]) -> list[Difference]:
    """The differences in the paper and the measured ones, network by network."""
    best = {group[0].row: group for group in reversed(by_settings(records))}
    return [
        _difference(row, metric, best.get(row, []))
        for row in paper_rows(TABLE)
        for metric in ("accuracy", "kh1", "kh05", "re")
    ]


def _difference(row: str, metric: str, measured: Iterable[Record]) -> Difference:
    printed = [float(tables()[TABLE]["rows"][row][column][metric]) for column in COLUMNS]
    paper = printed[1] - printed[0]
    by_column = {record.column: record for record in measured if record.metric == metric}
    first, second = map(by_column.get, COLUMNS)
    beyond_paper = _shares_differ(printed, (PAPER_BATCH,) * 2) if metric == "accuracy" else None
    if first is None or second is None or first.value is None or second.value is None:
        return Difference(row, metric, paper, beyond_paper)
    value = second.value - first.value
    fidelity = least_faithful(r.fidelity for r in (first, second))
    if first.stderr is None or second.stderr is None or not first.n or not second.n:
        return Difference(row, metric, paper, beyond_paper, value, fidelity=fidelity)
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


def papers_interval(right: int) -> str:
    """The exact binomial interval of an accuracy of the paper, in percent."""
    low, high = stats.binomtest(right, PAPER_BATCH).proportion_ci()
    return f"{100 * low:.0f} to {100 * high:.0f} %"
