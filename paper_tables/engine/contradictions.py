"""Measured values that differ from printed ones, by how many standard errors they are away."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lla.quantiles import normal, widening
from paper_tables.engine.cells import half_unit
from paper_tables.engine.fidelity import rank
from paper_tables.engine.records import Record

NORMAL = normal(0.975)
COMPARED = ("reproduced", "close", "differs")  # verdicts that compare a value with a printed one


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

    A printed value is compared with one measurement for each initialisation: the most faithful
    one, and of these that of the most batches, then of the largest ones. Else the scatter of two
    batches, which may be tiny by chance, would speak against the paper where four batches do not.

    Args:
        records: any; those of imitated public code, and of other initialisations than the paper's
            and torch's, are left out.
    """
    best: dict[tuple[object, ...], Record] = {}
    for r in sorted(filter(_comparable, records), key=_worth):
        best.setdefault((r.table, r.row, r.column, r.metric, r.config.get("init")), r)
    found = [Contradiction(r, _errors(r)) for r in best.values() if r.verdict == "differs"]
    beyond = [each for each in found if each.errors > NORMAL]
    return sorted(beyond, key=lambda each: -each.errors)


def _comparable(record: Record) -> bool:
    """Whether a value is judged against a printed one, and has a standard error."""
    return (
        record.verdict in COMPARED
        and not record.legacy
        and bool(record.stderr)
        and record.n != 1
        and None not in (record.paper_value, record.value)
    )


def _worth(record: Record) -> tuple[int, ...]:
    """Of the measurements of a cell the best one has the smallest."""
    return (rank(record.fidelity), -(record.batches or 0), -(record.batch_size or 0),
            -(record.probes or 0))  # fmt: skip


def _errors(record: Record) -> float:
    """The distance from the printed value; 1.96 of these errors are half of the 95 % interval."""
    assert record.stderr is not None
    assert record.value is not None
    assert record.paper_value is not None
    away = abs(record.value - float(record.paper_value)) - half_unit(record.paper_value)
    wide = 1.0 if record.n is None else widening(record.n - 1)
    return max(away, 0.0) / (record.stderr * wide)
