"""Which of several measurements comes nearest to a printed value."""

from __future__ import annotations

import math
from collections.abc import Iterable

from paper_tables.engine.cells import verdict
from paper_tables.engine.records import Record


def nearest(records: Iterable[Record], printed: str) -> Record:
    """The record whose value has the ratio nearest to 1 to the printed, positive one."""

    def distance(record: Record) -> float:
        value = record.value or 0.0
        return abs(math.log(value / float(printed))) if value > 0 else math.inf

    return min(records, key=distance)


def agreement(record: Record, printed: str) -> str:
    """Whether a record agrees with the printed value, as the end of a sentence."""
    judged = verdict(record.value, record.stderr, printed, record.metric, record.fidelity)
    words = {
        "reproduced": "which agrees within two standard errors",
        "close": "which is close",
    }
    return words.get(judged or "", "which differs from it")


def apart(first: Record, second: Record) -> bool:
    """Whether two values are more than two standard errors of their difference apart.

    Without standard errors any difference counts.
    """
    away = abs((first.value or 0.0) - (second.value or 0.0))
    return away > 2 * math.hypot(first.stderr or 0.0, second.stderr or 0.0)
