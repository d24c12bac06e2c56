"""Claims on layer-wise Hessians, judged from records."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from lla.report.text import measured
from paper_tables.engine.exhibit import ClaimScope, Decision, Predicate, Records, Verdict
from paper_tables.engine.records import Record
from paper_tables.evidence.criteria import MARGIN, falls, half_width, near_one, value_of
from paper_tables.evidence.intervals import combined, difference_width
from paper_tables.exhibits.layerwise import blocks, fixed, mlps
from paper_tables.exhibits.layerwise.measured import CLASSES, OVERLAP, RANDOM
from paper_tables.exhibits.layerwise.selection import above, cell_of, layers_in, within
from paper_tables.exhibits.layerwise.statements import ALL, MLPS

TIMES_RANDOM, TIMES_LESS = 20.0, 3.0
FIRST_SINGULAR, KRONECKER, OFF_BLOCKS = 0.7, 0.6, 0.5
ABOUT = 2  # outliers from C - 1

Rule = Callable[[Record], Verdict]


def _plain(row: str) -> str:
    """The column of a network without anything added."""
    return mlps.RAW.column if row in MLPS else fixed.COLUMN


def _overlap(row: str) -> Predicate:
    def predicate(records: Records) -> Decision:
        first, base = first_overlap(records, row, mlps.RAW.column)
        once = value_of(base)
        half = half_width(first)
        width = "" if half is None else f" ± {half / once:.3g}, 95 % interval"
        note = (
            f"{first.metric.partition(' ')[2]}: {measured(first.value, first.stderr)}, which is "
            f"{value_of(first) / once:.3g} times that of random spaces{width}, over {first.n} "
            "networks"
        )
        return Decision(above(first, TIMES_RANDOM * once), (first, base), note)

    return predicate


def _centred(row: str) -> Predicate:
    def predicate(records: Records) -> Decision:
        raw, _ = first_overlap(records, row, mlps.RAW.column)
        other, base = first_overlap(records, row, mlps.CENTRED.column)
        times, low, high = ratio(raw, other)
        note = (
            f"{times:.2g} times smaller (95 % interval {low:.2g} to {high:.2g}): "
            f"{measured(raw.value, raw.stderr)} and {measured(other.value, other.stderr)}, random "
            f"spaces {value_of(base):.2g}"
        )
        decided: Verdict = "undecided"
        if low > TIMES_LESS:
            decided = "holds"
        elif high < TIMES_LESS:
            decided = "fails"
        return Decision(decided, (raw, other), note)

    return predicate


def first_overlap(records: Records, row: str, column: str) -> tuple[Record, Record]:
    """The overlap of the first layers of different networks, and that of random spaces."""
    cell = cell_of(records, mlps.TABLE, row, column)
    first = next(iter(layers_in(cell, OVERLAP)))
    return cell[f"{OVERLAP} {first}"], cell[f"{RANDOM} {first}"]


def ratio(first: Record, second: Record) -> tuple[float, float, float]:
    """The ratio of two positive numbers and its 95 % interval, from logarithms (Welch)."""
    parts = [((r.stderr or 0.0) / value_of(r), r.n or 2) for r in (first, second)]
    log, half = math.log(value_of(first) / value_of(second)), difference_width(*parts)
    return math.exp(log), math.exp(log - half), math.exp(log + half)


def _every_layer(
    row: str, name: str, rule: Rule, wanted: str, *, hidden: bool = False, also: str = ""
) -> Predicate:
    """That a rule holds for a number of every layer.

    Args:
        row: the network.
        name: of the number.
        rule: gives the verdict on a layer.
        wanted: what the rule asks for, in words.
        hidden: leave out the last layer.
        also: another number to tell of the layers.
    """

    def predicate(records: Records) -> Decision:
        cell = cell_of(records, mlps.TABLE, row, _plain(row))
        mine = layers_in(cell, name)
        if hidden:
            mine.popitem()
        verdicts = {layer: rule(record) for layer, record in mine.items()}
        note = _of_layers(mine, verdicts, wanted)
        if also:
            others = layers_in(cell, also)
            low = min(value_of(others[layer]) for layer in mine)
            note += f"; the {CLASSES - 1} largest hold at least {low:.0%} of the trace"
        return Decision(combined(verdicts.values()), tuple(mine.values()), note)

    return predicate


def _of_layers(mine: Mapping[str, Record], verdicts: Mapping[str, Verdict], wanted: str) -> str:
    """How many layers have what is wanted, and the values; of many layers the extreme ones."""
    held = sum(verdict == "holds" for verdict in verdicts.values())
    order = sorted(mine, key=lambda layer: value_of(mine[layer]))
    shown = list(mine) if len(mine) <= 5 else [order[0], order[len(order) // 2], order[-1]]
    values = ", ".join(f"{name} {measured(mine[name].value, mine[name].stderr)}" for name in shown)
    which = "" if len(mine) <= 5 else "lowest, middle, highest: "
    return f"{held} of {len(mine)} layers {wanted}; {which}{values}"


def _batchnorm(row: str) -> Predicate:
    def predicate(records: Records) -> Decision:
        raw, other = (
            list(layers_in(cell_of(records, mlps.TABLE, row, variant.column), "kronecker_overlap")
                 .items())[1:]
            for variant in (mlps.RAW, mlps.BATCHNORM)
        )  # fmt: skip
        pairs = [(layer, a, b) for (layer, a), (_, b) in zip(raw, other, strict=True)]
        note = "; ".join(
            f"{layer} {measured(a.value, a.stderr)} to {measured(b.value, b.stderr)}"
            for layer, a, b in pairs
        )
        used = tuple(record for _, a, b in pairs for record in (a, b))
        return Decision(combined(falls(a, b) for _, a, b in pairs), used, note)

    return predicate


def _off_blocks(row: str) -> Predicate:
    def predicate(records: Records) -> Decision:
        column = mlps.RAW.column if row in MLPS else None
        (record,) = cell_of(records, blocks.TABLE, row, column).values()
        share = value_of(record)
        note = (
            f"{measured(share, record.stderr)} of ||H||_F and {share**2:.2g} of its square, over "
            f"{record.n} {record.stderr_kind}"
        )
        return Decision(above(record, OFF_BLOCKS), (record,), note)

    return predicate


def _in_about(record: Record) -> Verdict:
    return within(record, CLASSES - 1 - ABOUT, CLASSES - 1 + ABOUT)


CLAIMS: dict[ClaimScope, Predicate] = {
    **{ClaimScope("layerwise.overlap", row): _overlap(row) for row in MLPS},
    **{ClaimScope("layerwise.centred", row): _centred(row) for row in MLPS},
    **{
        ClaimScope("layerwise.rank_one", row): _every_layer(
            row, "rank_one", lambda r: above(r, FIRST_SINGULAR), f"above {FIRST_SINGULAR:g}"
        )
        for row in ALL
    },
    **{
        ClaimScope("layerwise.kronecker", row): _every_layer(
            row, "kronecker_overlap", lambda r: above(r, KRONECKER), f"above {KRONECKER:g}"
        )
        for row in ALL
    },
    **{ClaimScope("layerwise.batchnorm", row): _batchnorm(row) for row in MLPS},
    **{
        ClaimScope("layerwise.outliers", row): _every_layer(
            row, "outliers", _in_about, f"with {CLASSES - 1} within {ABOUT}", hidden=True,
            also="top_share",
        )
        for row in ALL
    },
    **{
        ClaimScope("layerwise.mean_input", row): _every_layer(
            row, "xx_ratio", near_one, f"from {MARGIN[0]:g} to {MARGIN[1]:g}"
        )
        for row in ALL
    },
    **{ClaimScope("layerwise.off_blocks", row): _off_blocks(row) for row in ALL},
}  # fmt: skip
