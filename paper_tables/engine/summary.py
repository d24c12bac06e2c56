"""The answer in a few sentences, with which the report opens; made from judgements and records."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence

from lla.report.contents import Point
from lla.report.text import measured
from paper_tables import paper
from paper_tables.engine.cells import METRIC_NAMES
from paper_tables.engine.claims import Judgement
from paper_tables.engine.contradictions import contradictions
from paper_tables.engine.exhibit import Records, Verdict
from paper_tables.engine.records import Record, config_hash
from paper_tables.paper.names import display, display_scope

SHOWN = 3  # of each list
VISIBLE = 2.0  # standard errors of a difference from which on it is one
COMPARED = ("kh05", "kh1", "re")
OURS = "ours"  # how the place of a claim begins that is not the paper's
REASON = 200  # characters of a note that are shown


def points(judgements: Sequence[Judgement], records: Records) -> tuple[Point, ...]:
    """What the paper's claims come to, what contradicts it, and what was not tested.

    Args:
        judgements: on all claims; those on the paper are taken.
        records: all published ones.
    """
    mine = [judgement for judgement in judgements if judgement.work == paper.WORK]
    claims = _by_claim(mine)
    found = (_tally(mine), _wherever(claims), _partly(claims), *_fails(claims),
             _undecided(claims), _distant(records), _changes(records),
             _untested(mine, claims))  # fmt: skip
    return tuple(filter(None, found))


def reason(note: str) -> str:
    """The first parts of a note, as many as are short together, and at least one.

    >>> reason("18 of 32 planes agree; with signed L1 18; differ: " + "LeNet, " * 40)
    '18 of 32 planes agree; with signed L1 18'
    """
    first, *rest = note.split("; ")
    if len(first) > REASON:
        return first[: REASON - 2].rstrip() + " …"
    for part in rest:
        if len(first) + len(part) + 2 > REASON:
            break
        first = f"{first}; {part}"
    return first


def _tally(mine: Sequence[Judgement]) -> Point:
    counts = Counter(each.verdict for each in mine)
    judged = [each for each in mine if each.verdict != "not_run"]
    exact = [each for each in judged if each.fidelity == "paper"]
    open_ones = sum(each.verdict == "undecided" for each in exact)
    ids = {each.claim.id for each in mine}
    ours = {each.claim.id for each in mine if each.claim.where.startswith(OURS)}
    added = f", and {len(ours)} of ours on it ({', '.join(sorted(ours))})," if ours else ""
    return Point(
        f"{len(ids - ours)} claims of the paper{added} are judged in {len(mine)} scopes: "
        f"{counts['holds']} hold, {counts['fails']} fail, {counts['undecided']} are undecided, and "
        f"{counts['not_run']} could not be tested. Of the {len(judged)} verdicts {len(exact)} "
        f"{'rests' if len(exact) == 1 else 'rest'} on the paper's own model, data and settings "
        f"({len(exact) - open_ones} decided, {open_ones} undecided), the others on fewer data or "
        "steps, or on other networks."
    )


Claims = dict[str, list[Judgement]]  # statement and id -> its judgements


def _by_claim(mine: Sequence[Judgement]) -> Claims:
    groups: Claims = {}
    for each in mine:
        groups.setdefault(f"{each.claim.statement} ({each.claim.id})", []).append(each)
    return groups


def _tested(all_of_it: Sequence[Judgement]) -> list[Judgement]:
    """The judgements that have a verdict."""
    return [each for each in all_of_it if each.verdict != "not_run"]


def _only(claims: Claims, verdict: Verdict) -> list[str]:
    """The claims with one verdict wherever they were tested, and in how many scopes."""
    found = []
    for name, all_of_it in claims.items():
        tested = _tested(all_of_it)
        if {each.verdict for each in tested} == {verdict}:
            found.append(f"{name}: {len(tested)} of {len(all_of_it)} scopes tested")
    return found


def _wherever(claims: Claims) -> Point:
    """Claims that hold in every scope where they could be tested."""
    held = _only(claims, "holds")
    if not held:
        return Point("No claim holds in every scope in which it could be tested.")
    return Point("Holds in every scope that could be tested:", tuple(held))


def _partly(claims: Claims) -> Point | None:
    """Claims that hold somewhere, fail nowhere, and are undecided elsewhere."""
    found = tuple(
        f"{name}. {_outcomes(all_of_it)}"
        for name, all_of_it in claims.items()
        if {each.verdict for each in _tested(all_of_it)} == {"holds", "undecided"}
    )
    return Point("Holds in some scopes, and fails in none:", found) if found else None


def _undecided(claims: Claims) -> Point | None:
    """Claims that no test decides."""
    found = _only(claims, "undecided")
    return Point("Undecided in every scope that could be tested:", tuple(found)) if found else None


def _fails(claims: Claims) -> list[Point]:
    """Claims that fail wherever they could be tested, and those that fail somewhere."""
    everywhere: list[str] = []
    somewhere: list[str] = []
    for name, all_of_it in claims.items():
        verdicts = {each.verdict for each in _tested(all_of_it)}
        if "fails" in verdicts:
            found = everywhere if verdicts == {"fails"} else somewhere
            found.append(f"{name}. {_outcomes(all_of_it)}")
    if not everywhere and not somewhere:
        return [Point("No claim fails.")]
    begun = {"Fails in every scope that could be tested:": everywhere,
             "Fails in some scopes:": somewhere}  # fmt: skip
    return [Point(words, tuple(names)) for words, names in begun.items() if names]


def _outcomes(all_of_it: Sequence[Judgement]) -> str:
    """Where a claim fails and by how much, and where it does not."""
    scopes: dict[str, list[str]] = {}
    for each in all_of_it:
        scopes.setdefault(each.verdict, []).append(display_scope(each.scope))
    sentences = [
        f"Fails for {display_scope(each.scope)}{each.note and ': '}{reason(each.note)}"
        for each in all_of_it
        if each.verdict == "fails"
    ]
    for verdict, words in (("holds", "Holds"), ("undecided", "Undecided")):
        if verdict in scopes:
            sentences.append(f"{words} for {'; '.join(scopes[verdict])}")
    return ". ".join(sentences) + "."


def _distant(records: Records) -> Point | None:
    """The printed numbers that are farthest from what was measured, one of each network."""
    farthest = {found.record.row: found for found in reversed(contradictions(records))}
    shown = sorted(farthest.values(), key=lambda found: -found.errors)[:SHOWN]
    if not shown:
        return None
    words = tuple(
        f"{_quantity(found.record)}: {found.record.paper_value} printed, "
        f"{measured(found.record.value, found.record.stderr)} measured on {found.record.batches} "
        f"batches of {found.record.batch_size} [{found.record.fidelity}], "
        f"{found.errors:.3g} standard errors apart"
        for found in shown
    )
    return Point(
        "Printed numbers that are farthest from ours, one of each network, by the distance in "
        "standard errors (widened by Student's t, so that few batches count less):",
        words,
    )


def _quantity(record: Record) -> str:
    metric = METRIC_NAMES.get(record.metric, record.metric)
    return f"{metric} of {display(record.row)} ({record.column})"


def _changes(records: Records) -> Point | None:
    """What three things change: the public code, the examples and probes, and the training."""
    plain = [r for r in records if r.metric in COMPARED and r.value and r.config.get("m")]
    code = _largest(plain, lambda r: bool(r.legacy), ("legacy", "route", "readings", "scope"))
    sizes = ("batch_size", "batches", "probes")
    size = _largest([r for r in plain if not r.legacy], lambda r: r.batch_size or 0, sizes)
    found = []
    if code:
        one, other = code
        found.append(
            f"the public code's Lanczos process: {_quantity(one)} from "
            f"{measured(one.value, one.stderr)} to {measured(other.value, other.stderr)}"
        )
    if size:
        one, other = size
        found.append(
            f"the number of examples and of probes: {_quantity(one)} from "
            f"{measured(one.value, one.stderr)} with {_amount(one)} to "
            f"{measured(other.value, other.stderr)} with {_amount(other)}"
        )
    run = _longest_run(records)
    if run:
        stages = (("first", run[0]), ("lowest", _lowest(run)), ("last", run[-1]))
        names: dict[int, list[str]] = {}
        for name, r in stages:
            names.setdefault(_epoch(r), []).append(name)
        words = ", ".join(
            f"{' and '.join(names[_epoch(r)])} {_at_epoch(r, records)}"
            for r in run
            if _epoch(r) in names
        )
        found.append(f"how long it is trained: {_quantity(run[0])} is {words}")
    return Point("What moves a number most:", tuple(found)) if found else None


def _longest_run(records: Records) -> list[Record]:
    """K_H1 along the training of most epochs in which it changes visibly, from epoch 1 on."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for r in records:
        if r.metric == "kh1" and r.value and r.config.get("epoch") and r.fidelity != "substitute":
            key = (r.table, r.row, r.column, _hash_without(r, ("epoch",)))
            groups.setdefault(key, []).append(r)
    runs = [sorted(group, key=_epoch) for group in groups.values()]
    visible = [run for run in runs if _fall_or_rise(run) > VISIBLE]
    return max(visible, key=lambda run: (_epoch(run[-1]), _fall_or_rise(run)), default=[])


def _epoch(record: Record) -> int:
    return int(record.config["epoch"])


def _lowest(run: Sequence[Record]) -> Record:
    return min(run, key=lambda r: r.value or 0.0)


def _fall_or_rise(run: Sequence[Record]) -> float:
    """How far the lowest value of a run is from its first or last one, see `_change`."""
    low = _lowest(run)
    return max(_change(run[0], low), _change(low, run[-1]))


def _at_epoch(record: Record, records: Records) -> str:
    """A value along a training, with the epoch and the loss over all images."""

    def place(r: Record) -> tuple[object, ...]:
        config = r.config
        return (r.table, r.row, r.column, config.get("epoch"), config.get("epochs"),
                config.get("training"))  # fmt: skip

    losses = [r for r in records if r.metric == "loss" and r.value and place(r) == place(record)]
    loss = f", loss {losses[0].value:.1g}" if losses else ""
    value = measured(record.value, record.stderr)
    return f"{value} (epoch {record.config['epoch']}{loss})"


def _amount(record: Record) -> str:
    return f"{record.batches} x {record.batch_size} and {record.probes} probes a batch"


def _largest(
    records: Sequence[Record], setting: Callable[[Record], int], free: tuple[str, ...]
) -> tuple[Record, Record] | None:
    """Two records of one cell that differ in one setting, and most in value; None if none do.

    The one with the smaller setting comes first.

    Args:
        records: with values.
        setting: of a record.
        free: entries of the configuration in which they may differ.
    """
    groups: dict[tuple[str, ...], list[Record]] = {}
    for r in records:
        key = (r.table, r.row, r.column, r.metric, _hash_without(r, free))
        groups.setdefault(key, []).append(r)
    pairs = [
        (one, other)
        for group in groups.values()
        for one, other in itertools.permutations(group, 2)
        if setting(one) < setting(other)
    ]
    visible = [pair for pair in pairs if _change(*pair) > VISIBLE]
    return max(visible, key=lambda pair: _change(*pair), default=None)


def _hash_without(record: Record, free: tuple[str, ...]) -> str:
    """The hash of a configuration, without the entries in which records may differ."""
    return config_hash({key: value for key, value in record.config.items() if key not in free})


def _change(one: Record, other: Record) -> float:
    """How far two values are apart, in standard errors of their difference."""
    away = abs((one.value or 0.0) - (other.value or 0.0))
    scatter = ((one.stderr or 0.0) ** 2 + (other.stderr or 0.0) ** 2) ** 0.5
    return away / scatter if scatter else 0.0


def _untested(mine: Sequence[Judgement], claims: Claims) -> Point | None:
    """What is missing where nothing could be tested, and the claims that no scope tests."""
    absent = [each for each in mine if each.verdict == "not_run"]
    if not absent:
        return None
    kinds = {
        "weights that are published but not here": "no weights",
        "a GPU": "GPU",
        "data in place of stand-ins": "stand-in",
    }
    counts: Counter[str] = Counter()
    for each in absent:
        what = [kind for kind, words in kinds.items() if words in each.note]
        counts[what[0] if what else "more computing"] += 1
    needs = ", ".join(f"{what} ({count})" for what, count in counts.most_common())
    names = tuple(name for name, all_of_it in claims.items() if not _tested(all_of_it))
    which = " Tested in no scope:" if names else ""
    return Point(f"{len(absent)} scopes could not be tested. They need: {needs}.{which}", names)
