"""What the two sets of Table 4 differ by, against the noise.

The paper has one batch of 64 pictures a set and no error bar. Of an accuracy the noise is known:
k of 64 is binomial. Of a criterion it is taken from the batches measured here, as the scatter of a
single batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy import stats

from paper_tables.engine.fidelity import least_faithful
from paper_tables.engine.records import FIDELITIES, Record
from paper_tables.evidence.intervals import difference_width
from paper_tables.paper import paper_rows, tables

TABLE = "table4"
COLUMNS = ("imagenet", "ni")
PAPER_BATCH = 64


@dataclass(frozen=True)
class Measured:
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


def by_settings(records: Iterable[Record]) -> list[Measured]:
    """The measured records of Table 4 by network and settings, the most faithful first."""
    groups: dict[tuple[object, ...], dict[tuple[str, str], Record]] = {}
    for record in records:
        if record.table == TABLE and record.value is not None:
            key = (record.row, record.config.get("side"), record.batch_size, record.m,
                   record.probes, record.seed, record.dtype)  # fmt: skip
            groups.setdefault(key, {})[record.column, record.metric] = record
    order = {row: i for i, row in enumerate(paper_rows(TABLE))}

    def rank(measured: Measured) -> tuple[int, int, int, int]:
        first = measured.first
        amount = (first.batch_size or 0) * (first.config.get("side") or 0) ** 2
        best = min(
            FIDELITIES.index(r.fidelity or FIDELITIES[-1]) for r in measured.records.values()
        )
        return (order.get(measured.row, len(order)), best, -(first.m or 0), -amount)

    return sorted((Measured(str(key[0]), found) for key, found in groups.items()), key=rank)


def differences(records: Iterable[Record]) -> list[Difference]:
    """What the paper's two sets differ by, and what was measured, network by network."""
    found: dict[str, Measured] = {}
    for measured in by_settings(records):
        found.setdefault(measured.row, measured)
    return [
        _difference(row, metric, found.get(row))
        for row in paper_rows(TABLE)
        for metric in ("accuracy", "kh1", "kh05", "re")
    ]


def _difference(row: str, metric: str, measured: Measured | None) -> Difference:
    printed = [float(tables()[TABLE]["rows"][row][column][metric]) for column in COLUMNS]
    paper = printed[1] - printed[0]
    pair = [measured.records.get((column, metric)) if measured else None for column in COLUMNS]
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


def papers_interval(right: int) -> str:
    """The exact binomial interval of an accuracy of the paper, in percent."""
    low, high = stats.binomtest(right, PAPER_BATCH).proportion_ci()
    return f"{100 * low:.0f} to {100 * high:.0f} %"
