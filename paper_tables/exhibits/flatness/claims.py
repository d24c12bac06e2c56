"""Claims on exact flatness, judged from records."""

from __future__ import annotations

from collections.abc import Sequence

from lla.report.text import measured
from paper_tables.engine.exhibit import ClaimScope, Decision, Predicate, Records, Verdict
from paper_tables.engine.fidelity import rank
from paper_tables.engine.records import Record
from paper_tables.evidence.criteria import missing, value_of
from paper_tables.evidence.intervals import combined
from paper_tables.exhibits.flatness import costs, identities
from paper_tables.exhibits.flatness.comparators import MEASURES
from paper_tables.exhibits.flatness.correlation import (
    FIRST,
    Correlation,
    Members,
    correlations,
    members,
    verdict,
)

EXACT, INVARIANT, NORMALIZED = 1e-10, 1e-12, 1e-10
CHANGES = 0.1  # of kappa, relative, that counts as a change
CHEAPER = 20.0
LEFT_OUT = "explicit Hessian"


def _identities(records: Records) -> Decision:
    mine = _of(records, identities.TABLE, LEFT_OUT, identities.EXACT)
    names = {record.row for record in mine}
    lacking = sorted(set(identities.ARCHITECTURES) - names)
    if lacking:
        raise missing(f"identities of {', '.join(lacking)}")
    worst = max(mine, key=value_of)
    note = (
        f"largest relative difference {value_of(worst):.1g} ({worst.row}, {worst.metric}), "
        f"{len(names)} architectures"
    )
    return Decision("holds" if value_of(worst) <= EXACT else "fails", tuple(mine), note, many=True)


def _invariant(kind: str) -> Predicate:
    def predicate(records: Records) -> Decision:
        mine = _of(records, identities.TABLE, kind, identities.INVARIANT)
        if not mine:
            raise missing(f"networks with {kind}")
        worst = {
            metric: max(value_of(r) for r in mine if r.metric == metric)
            for metric in identities.INVARIANT
        }
        note = (
            f"kappa changes by {worst['kappa_change']:.1g}, the output by "
            f"{worst['output_change']:.1g}, and the trace differs from lambda^-2 of its value by "
            f"{worst['trace_error']:.1g} at most, {len({r.row for r in mine})} architectures"
        )
        holds = max(worst.values()) <= INVARIANT
        return Decision("holds" if holds else "fails", tuple(mine), note, many=True)

    return predicate


def _channels(records: Records) -> Decision:
    mine = _of(records, identities.TABLE, identities.KINDS[1], identities.CHANNELS)
    if not mine:
        raise missing("networks with rescaled channels")
    ratios = [r for r in mine if r.metric == "next_ratio"]
    off = max(value_of(r) for r in mine if r.metric != "next_ratio")
    changed = all(abs(value_of(r) - 1) > CHANGES for r in ratios)
    listed = ", ".join(f"{r.row} {value_of(r):.3g}" for r in ratios)
    note = f"kappa after / before: {listed}; with normalised inputs 1 within {off:.1g}"
    holds = changed and off <= NORMALIZED
    return Decision("holds" if holds else "fails", tuple(mine), note, many=True)


def _correlated(name: str) -> Predicate:
    def predicate(records: Records) -> Decision:
        family, found = _family(records, name)
        first = next(c for c in found if c.measure == FIRST and not (c.rescaled or c.filtered))
        filtered = next(c for c in found if c.measure == FIRST and c.filtered and not c.rescaled)
        decided: Verdict = "undecided"
        if first.tau.low > 0:
            decided = "holds"
        elif first.tau.high < 0:
            decided = "fails"
        scatter, error = family.spread["gap_loss"]
        note = (
            f"tau {first.tau} (p {first.p:.2g}), r {first.r} over {first.n} networks; without the "
            f"three of smallest gap tau {filtered.tau}, r {filtered.r}; gaps scatter by "
            f"{scatter:.2g}, the standard error of one is {error:.2g}"
        )
        return Decision(decided, _used(family, (FIRST,)), note, many=True)

    return predicate


def _wins(name: str) -> Predicate:
    def predicate(records: Records) -> Decision:
        family, found = _family(records, name)
        mine = [c for c in found if not (c.rescaled or c.filtered) and c.winner]
        words: dict[str, Verdict] = {"kappa": "holds", "other": "fails", "undecided": "undecided"}
        decided = combined(words[c.winner] for c in mine)
        note = f"{verdict(found)}; after the random rescaling {verdict(found, rescaled=True)}"
        return Decision(decided, _used(family, tuple(MEASURES)), note, many=True)

    return predicate


def _family(records: Records, name: str) -> tuple[Members, list[Correlation]]:
    family = next((each for each in members(records) if each.name == name), None)
    if family is None:
        raise missing(f"networks trained on {name} (--real-data takes data sets that are found)")
    found = correlations(family)
    if not found:
        raise missing(f"enough networks trained on {name}: there are {len(family.values)}")
    return family, found


def _used(family: Members, names: Sequence[str]) -> tuple[Record, ...]:
    return tuple(r for r in family.records if r.metric in ("gap_loss", *names))


def _cost(row: str, column: str, wanted: float) -> Predicate:
    def predicate(records: Records) -> Decision:
        found = _of(records, costs.TABLE, column, costs.METRICS, row)
        cells = {r.config_hash: r.fidelity for r in found}
        if not cells:
            raise missing(f"what the {column} of {row} costs")
        chosen = min(cells, key=lambda key: rank(cells[key]))
        mine = {r.metric: r for r in found if r.config_hash == chosen}
        ratio = mine["speedup"]
        low, high = (value_of(ratio) + sign * 2 * (ratio.stderr or 0.0) for sign in (-1, 1))
        decided: Verdict = "undecided"
        if low >= wanted:
            decided = "holds"
        elif high < wanted:
            decided = "fails"
        note = (
            f"{measured(ratio.value, ratio.stderr)} times cheaper: "
            f"{value_of(mine['seconds_exact']):.2g} s against "
            f"{value_of(mine['products']):.3g} products of "
            f"{value_of(mine['seconds_product']):.2g} s, a number estimated from the scatter of "
            f"{mine['products'].n}; exact and sampled trace lie "
            f"{value_of(mine['agreement']):.2g} standard errors apart"
        )
        return Decision(decided, tuple(mine.values()), note)

    return predicate


def _of(
    records: Records, table: str, column: str, metrics: Sequence[str], row: str | None = None
) -> list[Record]:
    """The measured records of a column."""
    return [
        r
        for r in records
        if r.table == table
        and r.column == column
        and r.metric in metrics
        and r.value is not None
        and row in (None, r.row)
    ]


CLAIMS: dict[ClaimScope, Predicate] = {
    ClaimScope("flatness.identities", "all"): _identities,
    **{ClaimScope("flatness.invariant", kind): _invariant(kind) for kind in identities.KINDS},
    ClaimScope("flatness.channels", "all"): _channels,
    **{
        ClaimScope("flatness.correlation", name): _correlated(name)
        for name in ("digits", "mnist", "cifar10")
    },
    **{ClaimScope("flatness.wins", name): _wins(name) for name in ("digits", "mnist", "cifar10")},
    **{
        ClaimScope("flatness.cost", row): _cost(row, costs.CLOSED, CHEAPER)
        for row in ("resnet20", "squeezenet")
    },
    ClaimScope("flatness.cost_blocks", "resnet20"): _cost("resnet20", costs.BLOCKS, 1.0),
}
