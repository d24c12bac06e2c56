"""Claims on spectra and criteria (sections 3.2 to 3.4 and 4.4), judged from records.

A predicate looks at the plain (not legacy) records of one network at equal settings. Where chance
plays it decides by 95 % intervals: Student's t with the degrees of freedom of the standard error,
since a standard error over two or four batches is itself uncertain; for many batches that is the
usual 1.96.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from scipy import stats

from lla.report.text import measured
from paper_tables.engine.cells import METRIC_NAMES, settings_key
from paper_tables.engine.records import FIDELITIES, Record
from paper_tables.evidence.intervals import Verdict, combined, difference_width, quantile
from paper_tables.paper import paper_rows, tables

__all__ = [
    "ALMOST_NONE",
    "LOW_LOSS",
    "MARGIN",
    "PREDICATES",
    "Evidence",
    "Finding",
    "MissingError",
    "below",
    "evidence_on",
    "falls",
    "near_one",
    "not_ordered",
]

MARGIN = (0.8, 1.25)  # "near 1", symmetric on the log scale
ALMOST_NONE = 0.1  # "almost only positive": at most this share of the magnitude is negative
LARGE_RE = 2.0  # "asymmetric": r_e lies above
LARGE_SHARE = 0.25  # "a large negative part": at least this share of the magnitude
NO_FALL = 0.1  # "fails to fall": falls by less than this share
ENOUGH = 4  # networks that a rank correlation needs
ORDERS = 0.8  # a rank correlation with the accuracy below -0.8 orders networks by it
LOW_LOSS = 0.1  # "trained to low loss"; ln 10 = 2.3 is chance level

_CRITERIA = ("kh1", "kh05", "re")
_MODES = ("train", "eval")


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
    difference, half = _difference(first, second)
    if abs(difference) <= half:
        return "undecided"
    return "holds" if difference > 0 else "fails"


def _difference(first: Record, second: Record) -> tuple[float, float]:
    """The difference of two values, and half the width of its 95 % interval (Welch)."""
    parts = [(r.stderr or 0.0, r.n or 2) for r in (first, second)]
    return _value(first) - _value(second), difference_width(parts[0], parts[1])


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
            MissingError: it was not computed.
        """
        for record in self.records:
            place = (record.column, record.metric, record.config.get("init"), bool(record.legacy))
            if place == (column, metric, init, legacy):
                return record
        variant = " legacy" if legacy else ""
        raise MissingError(f"{column} {METRIC_NAMES[metric]} ({init} init{variant})")

    def first(self, column: str, metric: str) -> Record | None:
        """The plain record of one cell, or None."""
        try:
            return self.find(column, metric)
        except MissingError:
            return None


class MissingError(Exception):
    """A record that a predicate needs."""


def evidence_on(records: Sequence[Record], row: str, across_data: bool = False) -> list[Evidence]:
    """All evidence on a network, the most faithful settings first.

    Args:
        records: all published records.
        row: the network.
        across_data: put together what was measured on different sets of pictures.
    """
    groups: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        if record.row == row and record.value is not None and record.m is not None:
            key = settings_key(record)
            if across_data:
                key = (record.config.get("side"), record.batch_size, record.m, record.probes)
            groups.setdefault(key, []).append(record)

    def faithful(group: list[Record]) -> tuple[int, int, int]:
        rank = min(FIDELITIES.index(r.fidelity or FIDELITIES[-1]) for r in group)
        first = group[0]
        return (rank, -(first.batch_size or 0), -(first.batches or 0) * (first.probes or 0))

    return [Evidence(tuple(group)) for group in sorted(groups.values(), key=faithful)]


# --- the predicates: evidence -> (verdict, records it rests on, note)

Finding = tuple[Verdict, list[Record], str]
Predicate = Callable[[Evidence], Finding]


def _symmetric(init: str = "torch", modes: tuple[str, ...] = _MODES) -> Predicate:
    def predicate(evidence: Evidence) -> Finding:
        used = [
            evidence.find(f"random/{mode}", metric, init=init)
            for mode in modes
            for metric in _CRITERIA
        ]
        note = _values(used)
        if modes != _MODES:
            note += "; train mode, of which the paper says otherwise (H.resnet), is not judged here"
        return combined(map(near_one, used)), used, note

    return predicate


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


def _every_cell(columns: Sequence[str], metrics: Sequence[str]) -> Predicate:
    def predicate(evidence: Evidence) -> Finding:
        used, missing = [], []
        for column in columns:
            for metric in metrics:
                try:
                    used.append(evidence.find(column, metric))
                except MissingError as error:
                    missing.append(error)
        differing = [f"{r.column} {METRIC_NAMES[r.metric]}" for r in used if r.verdict == "differs"]
        if missing and not differing:  # one cell that differs is enough for "fails"
            raise missing[0]
        note = _counts(used)
        if differing:
            note += f" (differs: {', '.join(differing)})"
        if missing:
            note += f"; {len(missing)} of {len(used) + len(missing)} values are not computed"
        for title, choice in (("legacy", {"legacy": True}), ("uniform init", {"init": "uniform"})):
            others = []
            for record in used:
                try:
                    others.append(evidence.find(record.column, record.metric, **choice))
                except MissingError:
                    continue
            if others:
                note += f"; {title}: {_counts(others)}"
        unjudged = sum(record.verdict is None for record in used)
        if unjudged:
            note += f"; {unjudged} without a verdict (a stand-in, or K_H05 at another m)"
        verdict: Verdict = "fails" if differing else "undecided" if unjudged else "holds"
        return verdict, used, note

    return predicate


def _falls_in_training(metric: str) -> Predicate:
    def predicate(evidence: Evidence) -> Finding:
        pairs = [
            (evidence.find(f"random/{mode}", metric), evidence.find(f"pretrained/{mode}", metric))
            for mode in _MODES
        ]
        used = [record for pair in pairs for record in pair]
        return combined(falls(*pair) for pair in pairs), used, _values(used)

    return predicate


def _stays_in_training(metric: str) -> Predicate:
    """That a criterion fails to fall: by less than a share of its value at initialisation."""

    def predicate(evidence: Evidence) -> Finding:
        used, verdicts = [], []
        for mode in _MODES:
            first, second = (
                evidence.find(f"{state}/{mode}", metric) for state in ("random", "pretrained")
            )
            used += [first, second]
            verdicts.append(_drops(first, second, NO_FALL))
        return combined(verdicts), used, _values(used)

    return predicate


def _drops(first: Record, second: Record, share: float) -> Verdict:
    """Whether a fall is smaller than a share of the first value, by its 95 % interval."""
    if not (_has_error(first) and _has_error(second)):
        return "undecided"
    fall, half = _difference(first, second)
    limit = share * abs(_value(first))
    if abs(fall - limit) <= half:
        return "undecided"
    return "holds" if fall < limit else "fails"


def _rises_in_training(evidence: Evidence) -> Finding:
    pairs = [
        (evidence.find(f"pretrained/{mode}", metric), evidence.find(f"random/{mode}", metric))
        for mode in _MODES
        for metric in _CRITERIA
    ]
    used = [record for pair in pairs for record in pair]
    return combined(falls(*pair) for pair in pairs), used, _values(used)


def _asymmetric_in_train_mode(evidence: Evidence) -> Finding:
    train, evaluated = (evidence.find(f"random/{mode}", "re") for mode in _MODES)
    half = _half_width(train)
    first: Verdict = "undecided"
    if half is not None and abs(_value(train) - LARGE_RE) > half:
        first = "holds" if _value(train) > LARGE_RE else "fails"
    second = near_one(evaluated)
    printed = f"; the paper's {train.paper_value} is judged in Table 2" if train.paper_value else ""
    note = (
        f"{_values([train, evaluated])}; train above {LARGE_RE:g}: {first}, eval near 1: {second}"
    )
    return combined([first, second]), [train, evaluated], note + printed


def _keeps_negative_part(evidence: Evidence) -> Finding:
    used = [evidence.find(f"pretrained/{mode}", "negative_share") for mode in _MODES]
    reverse = {"holds": "fails", "fails": "holds"}
    verdicts = [reverse.get(v, v) for v in (below(record, LARGE_SHARE) for record in used)]
    shown = [evidence.find(f"pretrained/{mode}", m) for mode in _MODES for m in ("kh1", "re")]
    return combined(verdicts), used, _values([*used, *shown])  # type: ignore[arg-type]


def _kh05_against_accuracy(rises: bool) -> Predicate:
    """K_H05 on new images against ImageNet's, where the accuracy falls (or, for ViT, does not)."""

    def predicate(evidence: Evidence) -> Finding:
        first, second = (evidence.find(column, "kh05") for column in ("imagenet", "ni"))
        seen = [evidence.find(column, "accuracy") for column in ("imagenet", "ni")]
        ones = [evidence.find(column, "kh1") for column in ("imagenet", "ni")]
        rise = falls(second, first)
        less = falls(*seen)
        note = (
            f"{_values([first, second, *ones, *seen])}; K_H05 rises: {rise}, accuracy falls: {less}"
        )
        if not rises:
            rise = {"holds": "fails", "fails": "holds"}.get(rise, rise)  # type: ignore[assignment]
            return rise, [first, second, *seen], note
        return combined([rise, less]), [first, second, *seen], note

    return predicate


def _re_rises(evidence: Evidence) -> Finding:
    first, second = (evidence.find(column, "re") for column in ("imagenet", "ni"))
    return falls(second, first), [first, second], _values([first, second])


def _weights_vary_more(evidence: Evidence) -> Finding:
    column = "pretrained/eval"
    nodes = [evidence.find(column, metric) for metric in ("spread_weights", "spread_eigenvalues")]
    ratios = [evidence.find(column, metric) for metric in ("spread_kh1", "spread_kh05")]
    edge = evidence.find(column, "spread_re")
    verdicts = [falls(*nodes), *(falls(ratio, edge) for ratio in ratios)]
    used = [*nodes, *ratios, edge]
    return combined(verdicts), used, _values(used)


def not_ordered(records: Sequence[Record]) -> Finding:
    """Whether K_H05 of pre-trained networks orders them by accuracy (claim T2.noabs).

    Raises:
        MissingError: fewer than four networks were measured with equal size and steps.
    """
    printed = _rank_correlation(
        [
            (float(cells["accuracy"]["accuracy"]), float(cells["pretrained/eval"]["kh05"]))
            for cells in tables()["table2"]["rows"].values()
        ]
    )
    pairs: dict[str, tuple[Record, Record]] = {}
    for row in paper_rows("table2"):
        for evidence in evidence_on(records, row):
            kh05 = evidence.first("pretrained/eval", "kh05")
            seen = [
                r for r in records
                if (r.table, r.row, r.column, r.metric) == ("table2", row, "accuracy", "accuracy")
                and r.value is not None and kh05 and r.weights == kh05.weights
                and r.batch_sha256 == kh05.batch_sha256
            ]  # fmt: skip
            if kh05 and seen and kh05.fidelity != "substitute" and row not in pairs:
                pairs[row] = (seen[0], kh05)
    note = f"rank correlation of the paper's own six: {printed:.2f}"
    if len(pairs) < ENOUGH:
        raise MissingError(
            f"pre-trained networks with K_H05 and accuracy: {len(pairs)} of at least {ENOUGH} "
            f"({', '.join(pairs) or 'none'}); {note}"
        )
    used = [record for pair in pairs.values() for record in pair]
    found = _rank_correlation([(_value(a), _value(k)) for a, k in pairs.values()])
    ordered = found <= -ORDERS
    note = f"rank correlation of {len(pairs)} networks {found:.2f}; {note}"
    return ("fails" if ordered else "holds"), used, note


def _rank_correlation(pairs: Sequence[tuple[float, float]]) -> float:
    return float(stats.spearmanr(*zip(*pairs, strict=True)).statistic)


_BOTH = ("train", "eval")
_SPECTRA = tuple(f"{state}/{mode}" for mode in _BOTH for state in ("random", "pretrained"))
_BATCHNORM = ("resnet18", "mobilenet")  # of Table 2: networks whose modes differ by BatchNorm
_CNNS = ("lenet", "resnet18", "alexnet", "squeezenet", "mobilenet")

PREDICATES: dict[tuple[str, str], Predicate] = {
    ("H.sym", "lenet"): _symmetric(),
    ("H.sym", "lenet, uniform init"): _symmetric("uniform"),
    ("H.train", "lenet"): _along_training,
    ("H.resnet", "resnet18"): _asymmetric_in_train_mode,
    ("H.vit", "vit"): _keeps_negative_part,
    ("T2.vit", "vit"): _rises_in_training,
    ("T2.kh1", "lenet"): _falls_in_training("kh1"),
    ("S.weights", "lenet"): _weights_vary_more,
}
for _row in (*_CNNS, "vit"):
    PREDICATES["T2.cell", _row] = _every_cell(_SPECTRA, _CRITERIA)
    if _row != "lenet":
        PREDICATES["H.sym", _row] = _symmetric(modes=("eval",) if _row in _BATCHNORM else _BOTH)
    if _row != "vit":
        PREDICATES["H.pos", _row] = _positive
        PREDICATES["T2.kh05", _row] = _falls_in_training("kh05")
        PREDICATES["T2.re", _row] = _falls_in_training("re")
    if _row not in ("lenet", "vit"):
        PREDICATES["T2.kh1", _row] = _stays_in_training("kh1")
for _row in ("resnet50", "alexnet", "squeezenet", "mobilenet", "vit"):
    PREDICATES["T4.cell", _row] = _every_cell(("imagenet", "ni"), ("accuracy", *_CRITERIA))
    PREDICATES["T4.kh05", _row] = _kh05_against_accuracy(_row != "vit")
    PREDICATES["T4.re", _row] = _re_rises


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
    return "; ".join(
        f"{r.column} {METRIC_NAMES[r.metric]} {measured(r.value, r.stderr)}" for r in used
    )


def _counts(used: Sequence[Record]) -> str:
    counts = Counter(record.verdict for record in used)
    parts = [f"{counts[v]} {v}" for v in ("reproduced", "close", "differs") if counts[v]]
    return f"{', '.join(parts) or 'no verdict'} of {len(used)}"
