"""Measured values that differ from printed ones, by how many standard errors they are away."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from lla.quantiles import normal, widening
from paper_tables.engine.cells import half_unit
from paper_tables.engine.records import Record

NORMAL = normal(0.975)


@dataclass(frozen=True)
class Contradiction:
    """A value that differs from the printed one by more than chance.

    Attributes:
        record: of the value.
        errors: its distance from the printed value, less half a unit of that one's last digit, in
            standard errors. These are widened as Student's t asks for with few samples: six times
            with two of them.
    """

    record: Record
    errors: float


def contradictions(records: Iterable[Record]) -> list[Contradiction]:
    """All contradictions beyond the 95 % interval, the largest first.

    Args:
        records: any; those of imitated public code, and of other initialisations than the paper's
            and torch's, are left out.
    """
    found = []
    for record in records:
        if record.verdict != "differs" or record.legacy or not record.stderr:
            continue
        if record.paper_value is None or record.value is None:
            continue
        away = abs(record.value - float(record.paper_value)) - half_unit(record.paper_value)
        errors = max(away, 0.0) / _safe(record)
        if errors > NORMAL:
            found.append(Contradiction(record, errors))
    return sorted(found, key=lambda each: -each.errors)


def _safe(record: Record) -> float:
    """The standard error, such that 1.96 of it are half of the 95 % interval."""
    assert record.stderr is not None
    if record.n is None:
        return record.stderr
    return record.stderr * widening(record.n - 1) if record.n > 1 else math.inf
