"""The answer in a few sentences, with which the report opens; made from judgements and records."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from lla.report.text import measured
from paper_tables import paper
from paper_tables.engine.cells import METRIC_NAMES
from paper_tables.engine.claims import Judgement
from paper_tables.engine.contradictions import contradictions
from paper_tables.engine.exhibit import Records
from paper_tables.engine.records import Record, config_hash
from paper_tables.paper.names import display

SHOWN = 3  # of each list
VISIBLE = 2.0  # standard errors of a difference from which on it is one
COMPARED = ("kh05", "kh1", "re")


def sentences(judgements: Sequence[Judgement], records: Records) -> tuple[str, ...]:
    """What the paper's claims come to, what contradicts it, and what was not tested.

    Args:
        judgements: on all claims; those of the paper are taken.
        records: all published ones.
    """
    mine = [judgement for judgement in judgements if judgement.work == paper.WORK]
    found = (_tally(mine), _wherever(mine), *_fails(mine), _distant(records), _changes(records),
             _untested(mine))  # fmt: skip
    return tuple(filter(None, found))


def _tally(mine: Sequence[Judgement]) -> str:
    counts = Counter(each.verdict for each in mine)
    judged = [each for each in mine if each.verdict != "not_run"]
    exact = sum(each.fidelity == "paper" for each in judged)
    claims = len({each.claim.id for each in mine})
    return (
        f"The paper's {claims} claims are judged in {len(mine)} scopes: {counts['holds']} hold, "
        f"{counts['fails']} fail, {counts['undecided']} are undecided, and {counts['not_run']} "
        f"could not be tested. Of the {len(judged)} verdicts {exact} "
        f"{'rests' if exact == 1 else 'rest'} on the paper's own model, data and settings, the "
        "others on fewer data or steps, or on other networks."
    )


def _by_claim(mine: Sequence[Judgement]) -> Iterator[tuple[str, list[Judgement]]]:
    """The statement of each claim, with its judgements that have a verdict."""
    groups: dict[str, list[Judgement]] = {}
    for each in mine:
        groups.setdefault(f"{each.claim.statement} ({each.claim.id}", []).append(each)
    for name, all_of_it in groups.items():
        judged = [each for each in all_of_it if each.verdict != "not_run"]
        if judged:
            yield name, judged


def _wherever(mine: Sequence[Judgement]) -> str:
    """Claims that hold in every scope where they could be tested."""
    held = [
        f"{name}, {len(judged)} of {len(judged[0].claim.scopes)} scopes)"
        for name, judged in _by_claim(mine)
        if all(each.verdict == "holds" for each in judged)
    ]
    if not held:
        return "No claim holds in every scope in which it could be tested."
    return (
        f"Holds in every scope that could be tested (in brackets: how many could): "
        f"{'; '.join(held)}."
    )


def _fails(mine: Sequence[Judgement]) -> list[str]:
    """Claims that fail wherever they could be tested, and those that fail somewhere."""
    everywhere: list[str] = []
    somewhere: list[str] = []
    for name, judged in _by_claim(mine):
        scopes = [display(each.scope) for each in judged if each.verdict == "fails"]
        if scopes:
            found = everywhere if len(scopes) == len(judged) else somewhere
            found.append(f"{name}, {', '.join(scopes)})")
    if not everywhere and not somewhere:
        return ["No claim fails."]
    begun = {"Fails in every scope that could be tested": everywhere,
             "Fails in these scopes, and not in others": somewhere}  # fmt: skip
    return [f"{words}: {'; '.join(names)}." for words, names in begun.items() if names]


def _distant(records: Records) -> str:
    """The printed numbers that are farthest from what was measured, one of each network."""
    farthest = {found.record.row: found for found in reversed(contradictions(records))}
    shown = sorted(farthest.values(), key=lambda found: -found.errors)[:SHOWN]
    if not shown:
        return ""
    words = [
        f"{_quantity(found.record)}, {found.record.paper_value} printed, "
        f"{measured(found.record.value, found.record.stderr)} measured on {found.record.batches} "
        f"batches of {found.record.batch_size} [{found.record.fidelity}]"
        for found in shown
    ]
    return f"Printed numbers that are farthest from ours, one of each network: {'; '.join(words)}."


def _quantity(record: Record) -> str:
    metric = METRIC_NAMES.get(record.metric, record.metric)
    return f"{metric} of {display(record.row)} ({record.column})"


def _changes(records: Records) -> str:
    """What three things change: the public code, the examples and probes, and the training."""
    plain = [r for r in records if r.metric in COMPARED and r.value and r.config.get("m")]
    code = _largest(plain, lambda r: bool(r.legacy), ("legacy", "route", "readings", "scope"))
    sizes = ("batch_size", "batches", "probes")
    size = _largest([r for r in plain if not r.legacy], lambda r: r.batch_size or 0, sizes)
    along = [
        r for r in records
        if r.metric == "kh1" and r.value and r.config.get("epoch") and r.fidelity != "substitute"
    ]  # fmt: skip
    epochs = _largest(along, lambda r: int(r.config["epoch"]), ("epoch",))
    found = []
    if code:
        one, other = code
        found.append(
            f"the public code's Lanczos process, {_quantity(one)} from "
            f"{measured(one.value, one.stderr)} to {measured(other.value, other.stderr)}"
        )
    if size:
        one, other = size
        found.append(
            f"the number of examples, {_quantity(one)} from {measured(one.value, one.stderr)} "
            f"with {_amount(one)} to {measured(other.value, other.stderr)} with {_amount(other)}"
        )
    if epochs:
        one, other = epochs
        found.append(
            f"how long it is trained, {_quantity(one)} from {_at_epoch(one, records)} to "
            f"{_at_epoch(other, records)}"
        )
    return f"What changes an outcome most: {'; '.join(found)}." if found else ""


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
        rest = {key: value for key, value in r.config.items() if key not in free}
        key = (r.table, r.row, r.column, r.metric, config_hash(rest))
        groups.setdefault(key, []).append(r)
    pairs = [
        (one, other)
        for group in groups.values()
        for one, other in itertools.permutations(group, 2)
        if setting(one) < setting(other)
    ]
    visible = [pair for pair in pairs if _change(*pair) > VISIBLE]
    return max(visible, key=lambda pair: _change(*pair), default=None)


def _change(one: Record, other: Record) -> float:
    """How far two values are apart, in standard errors of their difference."""
    away = abs((one.value or 0.0) - (other.value or 0.0))
    scatter = ((one.stderr or 0.0) ** 2 + (other.stderr or 0.0) ** 2) ** 0.5
    return away / scatter if scatter else 0.0


def _untested(mine: Sequence[Judgement]) -> str:
    """What is missing where nothing could be tested."""
    absent = [each for each in mine if each.verdict == "not_run"]
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
    return f"{len(absent)} scopes could not be tested. They need: {needs}." if absent else ""
