"""Which records count: grouped by what must be equal, the most faithful first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable
from typing import TypeVar

from paper_tables.engine.cells import settings_key
from paper_tables.engine.fidelity import rank
from paper_tables.engine.records import Record

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Items by a key, keys and items in the order in which they come.

    >>> grouped([3, 1, 4, 2], lambda number: number % 2)
    {1: [3, 1], 0: [4, 2]}
    """
    found: dict[K, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def at_equal_settings(records: Iterable[Record]) -> list[list[Record]]:
    """Records that may be compared, see `settings_key`."""
    return list(grouped(records, settings_key).values())


def best_rank(records: Iterable[Record]) -> int:
    """The rank of the most faithful of some records."""
    return min(rank(record.fidelity) for record in records)


def most_faithful_first(
    groups: Iterable[Collection[Record]],
    then: Callable[[Collection[Record]], tuple[object, ...]] = lambda group: (),
) -> list[Collection[Record]]:
    """Groups of records by the most faithful record in each.

    Args:
        groups: none of them empty.
        then: decides between groups that are equally faithful; the smaller comes first.
    """
    return sorted(groups, key=lambda group: (best_rank(group), *then(group)))


def by_cell(records: Iterable[Record], table: str) -> dict[tuple[str, str, str], dict[str, Record]]:
    """The measured records of a table by (row, column, config hash), then by metric."""
    mine = (r for r in records if r.table == table and r.value is not None)
    cells = grouped(mine, lambda r: (r.row, r.column, r.config_hash))
    return {cell: {record.metric: record for record in found} for cell, found in cells.items()}
