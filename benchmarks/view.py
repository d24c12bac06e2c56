"""What the tables of all benchmarks are put together from: records by place, lines of text."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import TypeVar

from lla.report.view import Entry, Line
from paper_tables.engine.records import Record

Key = TypeVar("Key", bound=Hashable)
Cells = dict[tuple[str, str], Record]  # by column and metric


def grouped(records: Iterable[Record], key: Callable[[Record], Key]) -> dict[Key, list[Record]]:
    """Records that share a key, in the order in which the keys come."""
    groups: dict[Key, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups


def case(record: Record) -> tuple[str, str]:
    """What the records of one case of a benchmark share."""
    return record.row, record.config_hash


def cells(records: Iterable[Record]) -> Cells:
    """The records of one case by column and metric."""
    return {(record.column, record.metric): record for record in records}


def metrics(records: Iterable[Record]) -> dict[str, Record]:
    """The records of one column of a case by metric."""
    return {record.metric: record for record in records}


def number(record: Record) -> float:
    """The value of a record that was measured."""
    assert record.value is not None
    return record.value


def line(name: str, *texts: str) -> Line:
    """A line of plain texts; an empty one is an empty cell."""
    return Line(name, tuple(Entry(text) if text else None for text in texts))


def machine(record: Record) -> str:
    """On what kind of machine a record was measured."""
    return f"{record.device}, {record.threads} threads"


def page(name: str) -> Path:
    """The template of a page."""
    return Path(__file__).parent / "pages" / f"{name}.md.j2"
