"""Claims on level sets of the training loss, judged from records."""

from __future__ import annotations

from lla.report.text import measured
from paper_tables.engine.exhibit import ClaimScope, Decision, Predicate, Records, Verdict
from paper_tables.engine.records import Record
from paper_tables.evidence.criteria import below, half_width, missing, value_of
from paper_tables.evidence.intervals import decided
from paper_tables.evidence.selection import by_cell
from paper_tables.exhibits.level_sets.cells import TABLE
from paper_tables.exhibits.level_sets.comparison import COMPARED, OFF
from paper_tables.exhibits.level_sets.families import FAMILIES
from paper_tables.exhibits.level_sets.walks import FREE

TOLERANCE, FALLS, ON_CURVE, ABOVE = 0.02, -10.0, 5.0, 1.0
ENDED = 0.05  # KKT residual, above which a walk has not come to its end


def walks_in(records: Records, row: str) -> dict[str, dict[str, Record]]:
    """The records of a family by walk, then by metric; the last configuration of each.

    Raises:
        MissingError: there are none.
    """
    found = {
        column: cell for (own, column, _), cell in by_cell(records, TABLE).items() if own == row
    }
    if not found:
        hint = "" if row == FAMILIES[0].row else " (--real-data computes them)"
        raise missing(f"walks on {row}{hint}")
    return found


def _one(records: Records, row: str, walk: str, metric: str) -> Record:
    found = walks_in(records, row).get(walk, {}).get(metric)
    if found is None:
        raise missing(f"{walk} on {row}")
    return found


def _largest(row: str, metric: str) -> Predicate:
    """That the largest of a number over all walks is small enough."""

    def predicate(records: Records) -> Decision:
        mine = {w: c[metric] for w, c in walks_in(records, row).items() if metric in c}
        if not mine:
            raise missing(f"walks by a regularizer on {row}")
        worst = max(mine, key=lambda walk: value_of(mine[walk]))
        value = value_of(mine[worst])
        holds = value <= TOLERANCE if metric == "deviation" else value < 0
        note = (
            f"{value:.2g} at most ({worst}), {len(mine)} walks from each of {mine[worst].n} "
            "networks"
        )
        return Decision("holds" if holds else "fails", tuple(mine.values()), note, many=True)

    return predicate


def _interval(record: Record) -> str:
    half, value = half_width(record), value_of(record)
    return f"(95 % interval {value - (half or 0):.3g} to {value + (half or 0):.3g})"


def _test_loss(row: str, walk: str) -> Predicate:
    def predicate(records: Records) -> Decision:
        record = _one(records, row, walk, "test_change")
        low = _one(records, row, walk, "lowest_change")
        note = (
            f"{measured(record.value, record.stderr)} % {_interval(record)} over {record.n} "
            f"networks; lowest on the way {measured(low.value, low.stderr)} %"
        )
        return Decision(below(record, FALLS), (record, low), note)

    return predicate


def _control(row: str) -> Predicate:
    def predicate(records: Records) -> Decision:
        record = _one(records, row, FREE, "test_change")
        note = (
            f"{measured(record.value, record.stderr)} % {_interval(record)} over {record.n} "
            "networks"
        )
        return Decision(_above(record, FALLS), (record,), note)

    return predicate


def _above(record: Record, limit: float) -> Verdict:
    half = half_width(record)
    return "undecided" if half is None else decided(value_of(record) - limit, half)


def _pareto(row: str, walk: str) -> Predicate:
    def predicate(records: Records) -> Decision:
        kkt = _one(records, row, walk, "kkt")
        left = f"KKT residual {measured(kkt.value, kkt.stderr)}"
        record = walks_in(records, row)[walk].get(OFF)
        if record is None:
            note = f"no network has a weighted sum to compare with; {left} at the end of the walks"
            return Decision("undecided", (kkt,), note)
        note = (
            f"{measured(record.value, record.stderr)} % above it {_interval(record)}, {record.n} "
            f"of {kkt.n} networks have a weighted sum to compare with; {left}"
        )
        return Decision(_on_curve(record, kkt), (record, kkt), note)

    return predicate


def _on_curve(record: Record, kkt: Record) -> Verdict:
    """`holds` where every network is near the curve; `fails` only where its walk has ended."""
    half, value = half_width(record), value_of(record)
    if half is None or record.n != kkt.n:
        return "undecided"
    if abs(value) + half <= ON_CURVE:
        return "holds"
    ended = value_of(kkt) <= ENDED
    return "fails" if ended and abs(value) - half > ON_CURVE else "undecided"


def _minimum(row: str, walk: str) -> Predicate:
    def predicate(records: Records) -> Decision:
        record, place = (_one(records, row, walk, m) for m in ("after_lowest", "lowest_at"))
        note = (
            f"{measured(record.value, record.stderr)} % above the minimum {_interval(record)}, "
            f"which lies at {measured(place.value, place.stderr)} of the steps"
        )
        return Decision(_above(record, ABOVE), (record, place), note)

    return predicate


ROWS = tuple(family.row for family in FAMILIES)
CLAIMS: dict[ClaimScope, Predicate] = {
    **{ClaimScope("levelset.tolerance", row): _largest(row, "deviation") for row in ROWS},
    **{ClaimScope("levelset.monotone", row): _largest(row, "rise") for row in ROWS},
    **{ClaimScope("levelset.control", row): _control(row) for row in ROWS},
    **{
        ClaimScope(f"levelset.{claim}", f"{row}: {walk}"): judge(row, walk)
        for claim, judge in (
            ("test_loss", _test_loss), ("pareto", _pareto), ("minimum", _minimum),
        )
        for row in ROWS
        for walk in COMPARED
    },
}  # fmt: skip
