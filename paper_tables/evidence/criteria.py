"""Records of criteria as evidence: those of one network at equal settings, and what they say.

Where chance plays a part a verdict rests on 95 % intervals: Student's t with the degrees of freedom
of the standard error, since a standard error over two or four batches is itself uncertain; for many
batches that is the usual 1.96.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from lla.report.text import measured
from paper_tables.engine.cells import METRIC_NAMES, settings_key, verdict
from paper_tables.engine.exhibit import Decision, MissingError, Predicate, Records, Verdict
from paper_tables.engine.fidelity import rank
from paper_tables.engine.records import Record
from paper_tables.evidence.intervals import decided, difference_width, quantile
from paper_tables.evidence.selection import grouped, most_faithful_first

MARGIN = (0.8, 1.25)  # "near 1", symmetric on the log scale
NO_FALL = 0.1  # "fails to fall": falls by less than this share
ALMOST_NONE = 0.1  # "almost only positive": at most this share of the magnitude is negative
CRITERIA = ("kh1", "kh05", "re")
_NOT_YET = "not computed yet"
_TO_PUT = re.compile("no [^:]+: put ")  # how `absent` cells name a file that is not there
MODES = ("train", "eval")
ONE_MODE = ("lenet",)  # networks of which no layer depends on the mode: both are one function
REVERSED: dict[Verdict, Verdict] = {
    "holds": "fails",
    "fails": "holds",
    "undecided": "undecided",
    "not_run": "not_run",
}


def missing(what: str) -> MissingError:
    """The error to raise if a predicate needs something that was not computed yet."""
    return MissingError(f"{_NOT_YET}: {what}")


def near_one(record: Record, margin: tuple[float, float] = MARGIN) -> Verdict:
    """Whether a ratio is near 1: an equivalence test on the log.

    Args:
        record: of a ratio.
        margin: what still counts as near.

    Returns:
        `holds` if the 95 % interval lies inside the margin, `fails` if it lies outside, else
        `undecided`, as it is without a standard error.
    """
    value = value_of(record)
    half = half_width(record)
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
    known = has_error(first) and has_error(second)
    return decided(*difference_of(first, second)) if known else "undecided"


def difference_of(first: Record, second: Record) -> tuple[float, float]:
    """The difference of two values, and half the width of its 95 % interval (Welch)."""
    parts = [(r.stderr or 0.0, r.n or 2) for r in (first, second)]
    return value_of(first) - value_of(second), difference_width(parts[0], parts[1])


def stays(first: Record, second: Record) -> Verdict:
    """Whether a quantity falls by less than `NO_FALL` of the first value, by its 95 % interval."""
    if not (has_error(first) and has_error(second)):
        return "undecided"
    fall, half = difference_of(first, second)
    return decided(NO_FALL * abs(value_of(first)) - fall, half)


def below(record: Record, limit: float) -> Verdict:
    """Whether a quantity lies below a limit, by its 95 % interval."""
    half = half_width(record)
    return "undecided" if half is None else decided(limit - value_of(record), half)


# --- the records that a predicate sees


@dataclass(frozen=True)
class Evidence:
    """The records of one network at equal settings, and those that say why cells could not run."""

    records: tuple[Record, ...]
    absent: tuple[Record, ...] = ()

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes in which the network is another function."""
        return ("eval",) if any(r.row in ONE_MODE for r in self.records) else MODES

    def find(
        self, column: str, metric: str, *, init: str = "torch", legacy: bool = False
    ) -> Record:
        """The record of one cell.

        Raises:
            MissingError: it was not computed, with the file that it needs if that is known.
        """
        for record in self.records:
            place = (record.column, record.metric, record.config.get("init"), bool(record.legacy))
            if place == (column, metric, init, legacy):
                return record
        reason = needs(self.absent, column)
        if reason:
            raise MissingError(f"{column}: {reason}")
        variant = " legacy" if legacy else ""
        raise missing(f"{column} {METRIC_NAMES[metric]} ({init} init{variant})")

    def find_all(self, places: Iterable[tuple[str, str]]) -> list[Record]:
        """The plain records of some cells, each a column and a metric.

        Raises:
            MissingError: some were not computed; one that needs a file comes first.
        """
        found: list[Record] = []
        errors: list[MissingError] = []
        for column, metric in places:
            try:
                found.append(self.find(column, metric))
            except MissingError as error:
                errors.append(error)
        if errors:
            raise _weightiest(errors)
        return found

    def first(self, column: str, metric: str) -> Record | None:
        """The plain record of one cell, or None."""
        try:
            return self.find(column, metric)
        except MissingError:
            return None


def needs(absent: Iterable[Record], column: str | None = None) -> str | None:
    """The file that some cells need, as their records say; None if only time is lacking.

    Args:
        absent: records of cells that did not run.
        column: of the cells; any by default.
    """
    reasons = (r.reason for r in absent if column in (None, r.column))
    return next((reason for reason in reasons if reason and _TO_PUT.match(reason)), None)


def _weightiest(errors: Sequence[MissingError]) -> MissingError:
    """The first that is not a matter of time, else the first."""
    return next((e for e in errors if not str(e).startswith(_NOT_YET)), errors[0])


def evidence_on(records: Sequence[Record], row: str, across_data: bool = False) -> list[Evidence]:
    """All evidence on a network, the most faithful settings first.

    Args:
        records: all published records.
        row: the network.
        across_data: put together what was measured on different sets of pictures.
    """

    def settings(record: Record) -> tuple[object, ...]:
        if across_data:
            return (record.config.get("side"), record.batch_size, record.m, record.probes)
        return settings_key(record)

    def amount(group: Collection[Record]) -> tuple[int, int]:
        first = next(iter(group))
        return (-(first.batch_size or 0), -(first.batches or 0) * (first.probes or 0))

    mine = (r for r in records if r.row == row and r.value is not None and r.m is not None)
    groups = most_faithful_first(grouped(mine, settings).values(), amount)
    absent = absent_of(records, row)
    # within a group, too: several trainings, or numbers of batches, may stand side by side
    ranked = (
        sorted(group, key=lambda r: (rank(r.fidelity), -(r.batches or 0))) for group in groups
    )
    return [Evidence(tuple(group), absent) for group in ranked]


def absent_of(records: Iterable[Record], row: str) -> tuple[Record, ...]:
    """The records of a network that say why a cell did not run."""
    return tuple(r for r in records if r.row == row and r.value is None)


Rule = Callable[[Evidence], Decision]


def on_first(row: str, rule: Rule, across_data: bool = False) -> Predicate:
    """Make a predicate that applies a rule to the most faithful settings that have all it needs.

    Args:
        row: the network.
        rule: what decides.
        across_data: put together what was measured on different sets of pictures.
    """

    def predicate(records: Records) -> Decision:
        lacking = needs(absent_of(records, row))
        nothing = "no cell of it was computed yet"
        reason = MissingError(f"{nothing}; {lacking}" if lacking else nothing)
        for evidence in evidence_on(records, row, across_data):
            try:
                return rule(evidence)
            except MissingError as error:
                reason = error
        raise reason

    return predicate


def every_cell(columns: Sequence[str], metrics: Sequence[str]) -> Rule:
    """Make a rule that some cells agree with the paper's: one that differs is enough to fail.

    A cell is marked as one that differs by two standard errors. Here its 95 % interval decides,
    which is wider where few batches are behind it: no value in it may be close to the printed one.
    """

    def predicate(evidence: Evidence) -> Decision:
        used, missing = [], []
        for column in columns:
            for metric in metrics:
                try:
                    used.append(evidence.find(column, metric))
                except MissingError as error:
                    missing.append(error)
        marked = [r for r in used if r.verdict == "differs"]
        differing = [r for r in marked if surely_differs(r)]
        if missing and not differing:  # one cell that differs is enough for "fails"
            raise _weightiest(missing)
        note = verdict_counts(used)
        if differing:
            note += f" (differs: {_named(differing)})"
        if unsure := [r for r in marked if r not in differing]:
            note += f"; too few samples to be sure that {_named(unsure)} differs"
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
                note += f"; {title}: {verdict_counts(others)}"
        unjudged = sum(record.verdict is None for record in used)
        if unjudged:
            note += f"; {unjudged} without a verdict (a stand-in, or K_H05 at another m)"
        if differing:  # these decide, whatever the others are: a stand-in is never one of them
            return Decision("fails", tuple(differing), note)
        return Decision("undecided" if unjudged or marked else "holds", tuple(used), note)

    return predicate


def surely_differs(record: Record) -> bool:
    """Whether no value in a record's 95 % interval is close to the printed one."""
    half = half_width(record)
    if record.paper_value is None or half is None:
        return False
    value, printed = value_of(record), float(record.paper_value)
    nearest = min(max(printed, value - half), value + half)
    return verdict(nearest, None, record.paper_value, record.metric, record.fidelity) == "differs"


def _named(records: Iterable[Record]) -> str:
    return ", ".join(f"{r.column} {METRIC_NAMES[r.metric]}" for r in records)


def every_evidence(
    records: Records, table: str, row: str, column: str, metric: str
) -> list[Record]:
    """The plain records of a cell at every choice of settings, the most faithful first."""
    mine = [record for record in records if record.table == table]
    found = (evidence.first(column, metric) for evidence in evidence_on(mine, row))
    return [record for record in found if record is not None]


def value_of(record: Record) -> float:
    """Return the value of a measured record."""
    assert record.value is not None  # evidence holds measured records only
    return record.value


def has_error(record: Record) -> bool:
    """Tell whether a record has a standard error from two samples or more."""
    return record.stderr is not None and record.n is not None and record.n > 1


def half_width(record: Record) -> float | None:
    """Return half the width of the 95 % interval; None without a standard error."""
    if not has_error(record):
        return None
    assert record.stderr is not None
    assert record.n is not None
    return quantile(record.n - 1) * record.stderr


def in_words(used: Iterable[Record]) -> str:
    """List cells with their values and standard errors."""
    return "; ".join(
        f"{r.column} {METRIC_NAMES[r.metric]} {measured(r.value, r.stderr)}" for r in used
    )


def verdict_counts(used: Sequence[Record]) -> str:
    """Count the verdicts of some records, in words."""
    counts = Counter(record.verdict for record in used)
    parts = [f"{counts[v]} {v}" for v in ("reproduced", "close", "differs") if counts[v]]
    return f"{', '.join(parts) or 'no verdict'} of {len(used)}"
