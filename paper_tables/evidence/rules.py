"""Rules on one network before and after training, which several exhibits judge by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from scipy import stats

from paper_tables.engine.exhibit import Decision, Verdict
from paper_tables.engine.records import Record
from paper_tables.evidence.criteria import (
    ALMOST_NONE,
    CRITERIA,
    MODES,
    REVERSED,
    Evidence,
    Rule,
    below,
    falls,
    in_words,
    near_one,
    value_of,
)
from paper_tables.evidence.intervals import combined

LOW_LOSS = 0.1  # "trained to low loss"; ln 10 = 2.3 is chance level
ENOUGH = 4  # least number of networks for a rank correlation
ORDERS = 0.8  # a rank correlation with the accuracy below -0.8 orders networks by it

Find = Callable[[Evidence, str], Record]
"""Finds the record of a metric on one of two sets of images."""


def symmetric(init: str = "torch", modes: tuple[str, ...] = MODES) -> Rule:
    """A rule: all criteria of a random network are near 1."""

    def predicate(evidence: Evidence) -> Decision:
        used = [
            evidence.find(f"random/{mode}", metric, init=init)
            for mode in modes
            if mode in evidence.modes
            for metric in CRITERIA
        ]
        note = in_words(used)
        if modes != MODES:
            note += "; train mode, of which the paper says otherwise (H.resnet), is not judged here"
        return Decision(combined(map(near_one, used)), tuple(used), note)

    return predicate


def positive(evidence: Evidence) -> Decision:
    """A rule: almost only positive eigenvalues in a network that was trained to low loss."""
    modes = evidence.modes
    used = [evidence.find(f"pretrained/{mode}", "negative_share") for mode in modes]
    losses = [evidence.find(f"pretrained/{mode}", "loss") for mode in modes]
    highest = max(value_of(record) for record in losses)
    note = f"{in_words(used)}; loss {highest:.2g}"
    printed = [
        float(kh1.paper_value)
        for mode in modes
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
    """A rule: a judge compares some metrics in two weight states, in every mode."""

    def predicate(evidence: Evidence) -> Decision:
        used = evidence.find_all(
            (f"{state}/{mode}", metric)
            for mode in evidence.modes
            for metric in metrics
            for state in states
        )
        pairs = zip(used[::2], used[1::2], strict=True)
        return Decision(combined(judge(*pair) for pair in pairs), tuple(used), in_words(used))

    return predicate


def kh05_against_accuracy(old: Find, new: Find, rises: bool = True) -> Rule:
    """A rule: on new images K_H05 rises and the accuracy falls; or K_H05 does not rise.

    Args:
        old: finds a metric on images like those of the training.
        new: finds it on new ones.
        rises: what is claimed of K_H05.
    """

    def predicate(evidence: Evidence) -> Decision:
        (first, second), ones, seen = (
            [find(evidence, metric) for find in (old, new)]
            for metric in ("kh05", "kh1", "accuracy")
        )
        rise, less = falls(second, first), falls(*seen)
        shown = in_words([first, second, *ones, *seen])
        note = f"{shown}; K_H05 rises: {rise}, accuracy falls: {less}"
        if not rises:
            return Decision(REVERSED[rise], (first, second, *seen), note)
        # nothing is claimed of a network whose accuracy does not fall
        return Decision(rise if less == "holds" else "undecided", (first, second, *seen), note)

    return predicate


def re_rises(old: Find, new: Find) -> Rule:
    """A rule: on new images r_e rises."""

    def predicate(evidence: Evidence) -> Decision:
        first, second = old(evidence, "re"), new(evidence, "re")
        return Decision(falls(second, first), (first, second), in_words([first, second]))

    return predicate


def orders(correlation: float) -> Verdict:
    """Whether "K_H05 does not order networks by accuracy" holds at a rank correlation of the two.

    >>> orders(-0.9), orders(0.1), orders(math.nan)
    ('fails', 'holds', 'undecided')
    """
    if math.isnan(correlation):
        return "undecided"
    return "fails" if correlation <= -ORDERS else "holds"


def rank_correlation(pairs: Iterable[Iterable[float]]) -> float:
    """Spearman's, of some pairs of numbers; NaN where the first or the second are all the same.

    >>> rank_correlation([(1, 5), (2, 4), (3, 0)]), rank_correlation([(1, 5), (1, 4)])
    (-1.0, nan)
    """
    first, second = zip(*pairs, strict=True)
    if len({*first}) < 2 or len({*second}) < 2:
        return math.nan
    return float(stats.spearmanr(first, second).statistic)
