"""Rules on one network before and after training, which several exhibits judge by."""

from __future__ import annotations

from collections.abc import Callable

from paper_tables.engine.exhibit import Decision, Verdict
from paper_tables.engine.records import Record
from paper_tables.evidence.criteria import (
    ALMOST_NONE,
    CRITERIA,
    MODES,
    Evidence,
    Rule,
    below,
    in_words,
    near_one,
    value_of,
)
from paper_tables.evidence.intervals import combined

LOW_LOSS = 0.1  # "trained to low loss"; ln 10 = 2.3 is chance level


def symmetric(init: str = "torch", modes: tuple[str, ...] = MODES) -> Rule:
    """A rule: all criteria of a random network are near 1."""

    def predicate(evidence: Evidence) -> Decision:
        used = [
            evidence.find(f"random/{mode}", metric, init=init)
            for mode in modes
            for metric in CRITERIA
        ]
        note = in_words(used)
        if modes != MODES:
            note += "; train mode, of which the paper says otherwise (H.resnet), is not judged here"
        return Decision(combined(map(near_one, used)), tuple(used), note)

    return predicate


def positive(evidence: Evidence) -> Decision:
    """A rule: almost only positive eigenvalues in a network that was trained to low loss."""
    used = [evidence.find(f"pretrained/{mode}", "negative_share") for mode in MODES]
    losses = [evidence.find(f"pretrained/{mode}", "loss") for mode in MODES]
    highest = max(value_of(record) for record in losses)
    note = f"{in_words(used)}; loss {highest:.2g}"
    printed = [
        float(kh1.paper_value)
        for mode in MODES
        if (kh1 := evidence.find(f"pretrained/{mode}", "kh1")).paper_value
    ]
    if printed:  # K_H1 = negative / positive, so the share is K_H1 / (1 + K_H1)
        shares = " and ".join(f"{k / (1 + k):.2f}" for k in printed)
        note += f"; the paper's own K_H1 mean shares of {shares}"
    if highest > LOW_LOSS:
        return Decision("undecided", tuple(used), f"{note}; the loss is above {LOW_LOSS}, not low")
    return Decision(combined(below(record, ALMOST_NONE) for record in used), tuple(used), note)


def in_training(
    judge: Callable[[Record, Record], Verdict],
    *metrics: str,
    states: tuple[str, str] = ("random", "pretrained"),
) -> Rule:
    """A rule: a judge compares some metrics in two weight states, in both modes."""

    def predicate(evidence: Evidence) -> Decision:
        pairs = [
            [evidence.find(f"{state}/{mode}", metric) for state in states]
            for mode in MODES
            for metric in metrics
        ]
        used = tuple(record for pair in pairs for record in pair)
        return Decision(combined(judge(*pair) for pair in pairs), used, in_words(used))

    return predicate
