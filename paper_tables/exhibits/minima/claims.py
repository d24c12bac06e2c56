"""Claims on good and bad minima, judged from records."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from lla.estimate import Estimate
from lla.report.text import measured
from paper_tables.engine.exhibit import ClaimScope, Decision, Predicate, Records, Verdict
from paper_tables.engine.records import Record
from paper_tables.evidence.criteria import missing, value_of
from paper_tables.evidence.intervals import combined, decided, difference_width
from paper_tables.evidence.selection import by_cell
from paper_tables.exhibits.minima import ellipsoids, scans
from paper_tables.exhibits.minima.cells import CHANGE
from paper_tables.exhibits.minima.groups import (
    LOSS,
    Group,
    as_well,
    groups,
    lacking,
    pair,
    telling,
    unequal_losses,
)
from paper_tables.exhibits.minima.measured import CHEAP, COMPARED, INDEX
from paper_tables.exhibits.minima.statements import RESCALED, ROWS

POINTS, TIMES, ORDERS = 30.0, 3.0, 1000.0
SAME, SAME_SINGLE = 1e-6, 1e-5  # relative
ORDERED = 0.5  # Spearman's correlation
EXACT = 1e-6  # orders of magnitude
SPREAD = 2.0  # decades
SECONDS = 20.0


def _differs(row: str, metric: str, least: float, words: str) -> Predicate:
    """Whether the mean of the natural minima is above that of the bad ones by some amount."""

    def predicate(records: Records) -> Decision:
        good, bad, every = pair(records, row)
        difference, half = _difference(good.values(metric), bad.values(metric))
        listed = "; ".join(f"{g.variant} {_shown(g.mean(metric))}" for g in (good, *every))
        note = (
            f"{good.variant} less {bad.variant}: {difference:.4g} ± {half:.2g} {words} (95 % "
            f"interval, {good.count} and {bad.count} networks came to a minimum); {listed}"
        )
        used = _used((good, *every), (metric, "training_accuracy"))
        return Decision(decided(difference - least, half), used, note, many=True)

    return predicate


def _radius(row: str) -> Predicate:
    def predicate(records: Records) -> Decision:
        good, bad, every = pair(records, row)
        logs = [np.log(group.values("mean_radius")) for group in (good, bad)]
        difference, half = _difference(*logs)
        low, high = (math.exp(difference + sign * half) for sign in (-1, 1))
        listed = "; ".join(f"{g.variant} {_shown(g.mean('mean_radius'))}" for g in (good, *every))
        note = (
            f"{math.exp(difference):.3g} times (95 % interval {low:.3g} to {high:.3g}) for "
            f"{bad.variant} ({good.count} and {bad.count} networks came to a minimum); {listed}"
        )
        verdict = decided(difference - math.log(TIMES), half)
        better, room = _difference(good.values("test_accuracy"), bad.values("test_accuracy"))
        if decided(better, room) != "holds":  # then they are no good and bad minima
            verdict = "undecided"
            note += f"; not judged: test accuracies are {better:.2g} ± {room:.2g} points apart"
        used = _used((good, *every), ("mean_radius", "test_accuracy"))
        return Decision(verdict, used, note, many=True)

    return predicate


def _rescaled(row: str) -> Predicate:
    def predicate(records: Records) -> Decision:
        mine = [
            metrics[CHANGE] for group in groups(records).get(row, []) for metrics in group.reached
        ]
        if not mine:
            raise lacking(row)
        worst = max(mine, key=value_of)
        note = f"changes by {value_of(worst):.1g} at most over {len(mine)} minima ({worst.column})"
        holds = value_of(worst) <= SAME
        return Decision("holds" if holds else "fails", tuple(mine), note, many=True)

    return predicate


def _order(row: str) -> Predicate:
    def predicate(records: Records) -> Decision:
        good, _, every = pair(records, row)
        index = telling(good, every)[0]
        if math.isnan(index.rho.value):
            raise missing(f"enough poisoned minima of {row}: there are {index.n}")
        verdict: Verdict = "undecided"
        if index.rho.low > 0:
            verdict = "fails"
        elif index.rho.high < ORDERED:
            verdict = "holds"
        within = "; ".join(
            f"{g.variant} test accuracy {_shown(g.mean('test_accuracy'))} %, index "
            f"{_shown(g.mean(INDEX))}"
            for g in every
        )
        note = f"Spearman {index.rho} over {index.n} minima of {len(every)} shares; {within}"
        if math.isnan(index.rho.low):
            note = f"too few shares of poison for an interval; {note}"
        return Decision(verdict, _used(every, (INDEX, "test_accuracy")), note, many=True)

    return predicate


def _cheap(row: str) -> Predicate:
    def predicate(records: Records) -> Decision:
        good, _, every = pair(records, row)
        found = {each.metric: each for each in telling(good, every)}
        areas = {COMPARED[name]: found[name].area for name in CHEAP}
        index = found[INDEX]
        verdicts = [as_well(good, every, metric) for metric in CHEAP]
        listed = ", ".join(f"{name} {area:.2f}" for name, area in areas.items())
        note = (
            f"pairs in the right order: index {index.area:.2f}, {listed}; "
            f"{len(good.reached)} good and {index.n} bad minima"
        )
        used = _used((good, *every), (INDEX, *CHEAP, LOSS))
        apart = unequal_losses(good, every)
        verdict = "undecided" if apart else combined(verdicts)
        return Decision(verdict, used, f"{note}{apart}", many=True)

    return predicate


def _calibration(records: Records) -> Decision:
    cells = by_cell(records, ellipsoids.TABLE)
    mine = {row: found for (row, _, _), found in cells.items()}
    largest = ellipsoids.row(ellipsoids.SIZES[-1])
    few, many = ellipsoids.DIRECTIONS
    if largest not in mine:
        raise missing("ellipsoids of known volume")
    balls = [found[ellipsoids.shortfall(0, few)] for found in mine.values()]
    far, more = (mine[largest][ellipsoids.shortfall(SPREAD, count)] for count in (few, many))
    off = max(abs(value_of(r)) for r in balls)
    note = (
        f"balls: {off:.1g} orders of magnitude off; {largest}, spread {SPREAD:g}: {_of(far)} too "
        f"few, {_of(more)} with {many} directions"
    )
    holds = off <= EXACT and value_of(far) - 2 * (far.stderr or 0.0) >= ORDERS
    return Decision("holds" if holds else "fails", (*balls, far, more), note, many=True)


def _scan(records: Records) -> Decision:
    mine = _scans(records)
    notes, verdicts = [], []
    for column, found in mine.items():
        less, all_of_it = (value_of(found[f"evaluations_{s}"]) for s in ("informed", "full"))
        difference = value_of(found["difference"])
        same = difference <= SAME_SINGLE and less < all_of_it
        verdicts.append("holds" if same else "fails")
        notes.append(
            f"{column}: {less / scans.DIRECTIONS:.3g} evaluations a direction in place of "
            f"{all_of_it / scans.DIRECTIONS:.3g}, radii differ by {difference:.1g}"
        )
    records_of = tuple(r for found in mine.values() for r in found.values())
    return Decision(combined(verdicts), records_of, "; ".join(notes))  # type: ignore[arg-type]


def _cost(records: Records) -> Decision:
    mine = _scans(records)
    notes = [
        f"{column}: {value_of(found['seconds_informed']):.3g} s in stacks, "
        f"{value_of(found['seconds_full']):.3g} s by the full scan in stacks, "
        f"{value_of(found['seconds_loop']):.3g} s point by point, informed"
        for column, found in mine.items()
    ]
    worst = max(value_of(found["seconds_informed"]) for found in mine.values())
    records_of = tuple(r for found in mine.values() for r in found.values())
    return Decision("holds" if worst < SECONDS else "fails", records_of, "; ".join(notes))


def _scans(records: Records) -> dict[str, dict[str, Record]]:
    cells = by_cell(records, scans.TABLE)
    mine = {
        column: found for (_, column, _), found in cells.items() if set(found) >= set(scans.METRICS)
    }
    if not mine:
        raise missing("what the radial index costs")
    return mine


def _difference(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """The difference of two means, and half the width of its 95 % interval.

    It is infinite where neither scatters: so few networks say nothing of chance then.
    """
    parts = [(float(v.std(ddof=1)) / math.sqrt(len(v)), len(v)) for v in (first, second)]
    return float(first.mean() - second.mean()), difference_width(*parts) or math.inf


def _used(mine: Sequence[Group], metrics: Sequence[str]) -> tuple[Record, ...]:
    return tuple(m[name] for group in mine for m in group.reached for name in metrics)


def _shown(estimate: Estimate) -> str:
    return measured(estimate.value, estimate.stderr)


def _of(record: Record) -> str:
    return measured(record.value, record.stderr)


def _each(
    id: str, rows: Sequence[str], make: Callable[[str], Predicate]
) -> dict[ClaimScope, Predicate]:
    return {ClaimScope(id, row): make(row) for row in rows}


CLAIMS: dict[ClaimScope, Predicate] = {
    **_each("minima.accuracy", ROWS, lambda r: _differs(r, "test_accuracy", POINTS, "points")),
    **_each("minima.radius", ROWS, _radius),
    **_each("minima.index", ROWS, lambda r: _differs(r, INDEX, ORDERS, "orders of magnitude")),
    **_each("minima.rescaled", RESCALED, _rescaled),
    **_each("minima.order", ROWS, _order),
    **_each("minima.cheap", ROWS, _cheap),
    ClaimScope("minima.calibration", "all"): _calibration,
    ClaimScope("minima.scan", "digits"): _scan,
    ClaimScope("minima.cost", "digits"): _cost,
}
