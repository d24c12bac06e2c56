"""Verdicts on the paper's claims, from records alone.

A predicate looks at the plain (not legacy) records of equal settings, the most faithful settings
that have all it needs. Where chance plays it decides by 95 % intervals: Student's t with the
degrees of freedom of the standard error, since a standard error over two or four batches is
itself uncertain; for many batches that is the usual 1.96.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lla.records import FIDELITIES, Record, atomic_write
from paper_tables import claims_landscape
from paper_tables.cells import METRICS, settings_key
from paper_tables.intervals import Verdict, combined, quantile
from paper_tables.text import markdown_table, measured
from paper_tables.values import Claim, claims

__all__ = [
    "ALMOST_NONE",
    "LOW_LOSS",
    "MARGIN",
    "Judgement",
    "below",
    "combined",
    "falls",
    "judge",
    "near_one",
    "write",
]

MARGIN = (0.8, 1.25)  # "near 1", symmetric on the log scale
ALMOST_NONE = 0.1  # "almost only positive": at most this share of the magnitude is negative
LOW_LOSS = 0.1  # "trained to low loss"; ln 10 = 2.3 is chance level

_CRITERIA = ("kh1", "kh05", "re")
_MODES = ("train", "eval")


@dataclass(frozen=True)
class Judgement:
    """The verdict on one claim in one scope."""

    claim: Claim
    scope: str
    verdict: Verdict
    fidelity: str | None = None  # of the least faithful cell it rests on
    cells: tuple[str, ...] = ()  # "table2 lenet random/eval"
    note: str = ""


def near_one(record: Record, margin: tuple[float, float] = MARGIN) -> Verdict:
    """Whether a ratio is near 1: an equivalence test on the log.

    Args:
        record: of a ratio.
        margin: what still counts as near.

    Returns:
        `holds` if the 95 % interval lies inside the margin, `fails` if it lies outside, else
        `undecided`, as it is without a standard error.
    """
    value = _value(record)
    half = _half_width(record)
    if half is None:
        return "undecided"
    if value <= 0:  # has no logarithm; its interval on the linear scale decides
        return "fails" if value + half < margin[0] else "undecided"
    low, high = (math.log(value) + sign * half / value for sign in (-1, 1))
    lower, upper = map(math.log, margin)
    if lower <= low and high <= upper:
        return "holds"
    return "fails" if high < lower or low > upper else "undecided"


def falls(first: Record, second: Record) -> Verdict:
    """Whether a quantity falls from one record to another.

    Returns:
        `holds` if the 95 % interval of the difference (Welch) lies on the side of a fall, `fails`
        if it lies on the other, `undecided` if it straddles 0 or a standard error is missing.
    """
    if not (_has_error(first) and _has_error(second)):
        return "undecided"
    assert first.stderr is not None
    assert second.stderr is not None
    difference = _value(first) - _value(second)
    combined_error = math.hypot(first.stderr, second.stderr)
    if combined_error == 0:
        return "holds" if difference > 0 else "fails" if difference < 0 else "undecided"
    freedom = combined_error**4 / sum(
        r.stderr**4 / (r.n - 1) for r in (first, second) if r.stderr and r.n
    )
    half = quantile(freedom) * combined_error
    if abs(difference) <= half:
        return "undecided"
    return "holds" if difference > 0 else "fails"


def below(record: Record, limit: float) -> Verdict:
    """Whether a quantity lies below a limit, by its 95 % interval."""
    half = _half_width(record)
    if half is None or abs(_value(record) - limit) <= half:
        return "undecided"
    return "holds" if _value(record) < limit else "fails"


# --- the records that a predicate sees


@dataclass(frozen=True)
class Evidence:
    """The records of one network at equal settings."""

    records: tuple[Record, ...]

    def find(
        self, column: str, metric: str, *, init: str = "torch", legacy: bool = False
    ) -> Record:
        """The record of one cell.

        Raises:
            _MissingError: it was not computed.
        """
        for record in self.records:
            place = (record.column, record.metric, record.config.get("init"), bool(record.legacy))
            if place == (column, metric, init, legacy):
                return record
        variant = " legacy" if legacy else ""
        raise _MissingError(f"{column} {METRICS[metric]} ({init} init{variant})")


class _MissingError(Exception):
    """A record that a predicate needs."""


def _evidence(records: Sequence[Record], row: str) -> list[Evidence]:
    """All evidence on a network, the most faithful settings first."""
    groups: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        if record.row == row and record.value is not None and record.m is not None:
            groups.setdefault(settings_key(record), []).append(record)

    def faithful(group: list[Record]) -> tuple[int, int, int]:
        rank = min(FIDELITIES.index(r.fidelity or FIDELITIES[-1]) for r in group)
        first = group[0]
        return (rank, -(first.batch_size or 0), -(first.batches or 0) * (first.probes or 0))

    return [Evidence(tuple(group)) for group in sorted(groups.values(), key=faithful)]


# --- the predicates: evidence -> (verdict, records it rests on, note)

Finding = tuple[Verdict, list[Record], str]


def _symmetric(evidence: Evidence, init: str) -> Finding:
    used = [
        evidence.find(f"random/{mode}", metric, init=init)
        for mode in _MODES
        for metric in _CRITERIA
    ]
    return combined(map(near_one, used)), used, _values(used)


def _positive(evidence: Evidence) -> Finding:
    used = [evidence.find(f"pretrained/{mode}", "negative_share") for mode in _MODES]
    losses = [evidence.find(f"pretrained/{mode}", "loss") for mode in _MODES]
    highest = max(_value(record) for record in losses)
    note = f"{_values(used)}; loss {highest:.2g}"
    printed = [
        float(kh1.paper_value)
        for mode in _MODES
        if (kh1 := evidence.find(f"pretrained/{mode}", "kh1")).paper_value
    ]
    if printed:  # K_H1 = negative / positive, so the share is K_H1 / (1 + K_H1)
        shares = " and ".join(f"{k / (1 + k):.2f}" for k in printed)
        note += f"; the paper's own K_H1 mean shares of {shares}"
    if highest > LOW_LOSS:
        return "undecided", used, f"{note}; the loss is above {LOW_LOSS}, not low"
    return combined(below(record, ALMOST_NONE) for record in used), used, note


def _along_training(evidence: Evidence) -> Finding:
    columns = ("random/eval", "during/eval", "pretrained/eval")
    used = [evidence.find(column, "negative_share") for column in columns]
    steps = [falls(first, second) for first, second in itertools.pairwise(used)]
    note = f"{_values(used)}; init to during: {steps[0]}, during to after: {steps[1]}"
    return combined(steps), used, note


def _every_cell(evidence: Evidence) -> Finding:
    columns = [f"{state}/{mode}" for mode in _MODES for state in ("random", "pretrained")]
    used = [evidence.find(column, metric) for column in columns for metric in _CRITERIA]
    differing = [f"{r.column} {METRICS[r.metric]}" for r in used if r.verdict == "differs"]
    note = _counts(used)
    if differing:
        note += f" (differs: {', '.join(differing)})"
    for title, choice in (("legacy", {"legacy": True}), ("uniform init", {"init": "uniform"})):
        others = []
        for record in used:
            try:
                others.append(evidence.find(record.column, record.metric, **choice))
            except _MissingError:
                continue
        if others:
            note += f"; {title}: {_counts(others)}"
    if any(record.verdict is None for record in used):
        return "undecided", used, "stand-ins have no verdict"
    return ("fails" if differing else "holds"), used, note


def _falls_in_training(metric: str) -> Callable[[Evidence], Finding]:
    def predicate(evidence: Evidence) -> Finding:
        pairs = [
            (evidence.find(f"random/{mode}", metric), evidence.find(f"pretrained/{mode}", metric))
            for mode in _MODES
        ]
        used = [record for pair in pairs for record in pair]
        return combined(falls(*pair) for pair in pairs), used, _values(used)

    return predicate


PREDICATES: dict[tuple[str, str], Callable[[Evidence], Finding]] = {
    ("H.sym", "lenet"): lambda evidence: _symmetric(evidence, "torch"),
    ("H.sym", "lenet, uniform init"): lambda evidence: _symmetric(evidence, "uniform"),
    ("H.pos", "lenet"): _positive,
    ("H.train", "lenet"): _along_training,
    ("T2.cell", "lenet"): _every_cell,
    ("T2.kh05", "lenet"): _falls_in_training("kh05"),
    ("T2.kh1", "lenet"): _falls_in_training("kh1"),
    ("T2.re", "lenet"): _falls_in_training("re"),
}


def judge(records: Sequence[Record]) -> list[Judgement]:
    """Judge every claim in every scope.

    Args:
        records: all published records.

    Returns:
        One judgement a claim and scope, in the order of the claims. What cannot be judged is
        `not_run`, with the reason as its note.
    """
    return [
        _judge_one(claim, scope, missing, records)
        for claim in claims()
        for scope, missing in claim.scopes.items()
    ]


def _judge_one(
    claim: Claim, scope: str, missing: str | None, records: Sequence[Record]
) -> Judgement:
    if missing is not None:
        return Judgement(claim, scope, "not_run", note=missing)
    if (claim.id, scope) in claims_landscape.PREDICATES:
        found = claims_landscape.judge(claim.id, scope, records)
        cells = tuple(dict.fromkeys(f"{r.table} {r.row}" for r in found.records))
        return Judgement(claim, scope, found.verdict, found.fidelity, cells, found.note)
    predicate = PREDICATES[claim.id, scope]
    reason = "no cell of it was computed yet"
    for evidence in _evidence(records, scope.split(",")[0]):
        try:
            verdict, used, note = predicate(evidence)
        except _MissingError as error:
            reason = f"not computed yet: {error}"
            continue
        fidelity = max((r.fidelity or "substitute" for r in used), key=FIDELITIES.index)
        cells = tuple(dict.fromkeys(f"{r.table} {r.row} {r.column}" for r in used))
        if fidelity == "substitute":
            note = f"only stand-in data, on which it would be {verdict!r}: {note}"
            return Judgement(claim, scope, "not_run", fidelity, cells, note)
        return Judgement(claim, scope, verdict, fidelity, cells, note)
    return Judgement(claim, scope, "not_run", note=reason)


def write(records: Sequence[Record], results: Path) -> None:
    """Write `claims.md` and `claims.csv` into the folder of results."""
    judgements = judge(records)
    headers = ("id", "where", "claim", "scope", "verdict", "fidelity", "rests on", "note")
    rows = [
        (j.claim.id, j.claim.where, j.claim.statement, j.scope, j.verdict, j.fidelity or "",
         ", ".join(j.cells), j.note)
        for j in judgements
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=list(headers))
    atomic_write(results / "claims.csv", table.to_csv(index=False))
    counts = Counter(j.verdict for j in judgements)
    summary = ", ".join(f"{counts[v]} {v}" for v in ("holds", "fails", "undecided", "not_run"))
    text = (
        "# Claims\n\n"
        f"{len(claims())} claims in {len(judgements)} scopes: {summary}. Made from the records by "
        "`pytest paper_tables`.\n\n"
        f"Intervals are 95 % (Student's t over the batches). *Near 1*: the interval lies in "
        f"[{MARGIN[0]}, {MARGIN[1]}]. *Almost only positive*: at most {ALMOST_NONE} of the "
        "magnitude sum |lambda| w is negative. *Falls*: the interval of the difference excludes 0. "
        "*Asymmetric*: the interval of the share of points below the cap without a mirror image "
        f"below it lies above {claims_landscape.ASYMMETRIC}. *fidelity* is that "
        "of the least faithful cell a verdict rests on; a claim is not judged on stand-in data.\n\n"
        + markdown_table(rows, headers, aligned=False)
        + "\n"
    )
    atomic_write(results / "claims.md", text)


def _value(record: Record) -> float:
    assert record.value is not None  # evidence holds measured records only
    return record.value


def _has_error(record: Record) -> bool:
    return record.stderr is not None and record.n is not None and record.n > 1


def _half_width(record: Record) -> float | None:
    if not _has_error(record):
        return None
    assert record.stderr is not None
    assert record.n is not None
    return quantile(record.n - 1) * record.stderr


def _values(used: Iterable[Record]) -> str:
    return "; ".join(f"{r.column} {METRICS[r.metric]} {measured(r.value, r.stderr)}" for r in used)


def _counts(used: Sequence[Record]) -> str:
    counts = Counter(record.verdict for record in used)
    parts = [f"{counts[v]} {v}" for v in ("reproduced", "close", "differs") if counts[v]]
    return f"{', '.join(parts) or 'no verdict'} of {len(used)}"
