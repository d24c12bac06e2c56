"""Parts of the tables of all benchmarks: records by place, lines, prose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from lla.report import prose
from lla.report.view import Entry, Line
from paper_tables.engine.records import Record
from paper_tables.evidence.criteria import value_of
from paper_tables.evidence.selection import grouped

MIB = 2**20
Values = Mapping[str, Mapping[str, float]]  # by column, then by metric


def case(record: Record) -> tuple[str, str]:
    """What the records of one case of a benchmark share."""
    return record.row, record.config_hash


def cases(records: Iterable[Record]) -> list[list[Record]]:
    """The records of each case, in the order in which the cases come."""
    return list(grouped(records, case).values())


def columns(records: Iterable[Record]) -> dict[str, dict[str, Record]]:
    """The records of one case by column, then by metric."""
    groups = grouped(records, lambda record: record.column)
    return {column: {r.metric: r for r in found} for column, found in groups.items()}


def values(records: Iterable[Record]) -> Values:
    """The values of one case by column, then by metric; all of them were measured."""
    return {
        column: {metric: value_of(record) for metric, record in found.items()}
        for column, found in columns(records).items()
    }


def line(name: str, formats: Mapping[str, str], known: Mapping[str, object]) -> Line:
    """A line of a table.

    Args:
        name: of the line.
        formats: how the known values are written, by column.
        known: by name; a column that needs one that is missing is empty.
    """
    entries: list[Entry | None] = []
    for text in formats.values():
        try:
            entries.append(Entry(text.format_map(known)))
        except KeyError:
            entries.append(None)
    return Line(name, tuple(entries))


def machine(record: Record) -> str:
    """The kind of machine on which a record was measured."""
    kind = f" ({record.cpu})" if record.cpu else ""
    return f"{record.device}{kind}, {record.threads} threads"


def data(record: Record) -> str:
    """The data of a record, with the fidelity."""
    return f"{record.data.name if record.data else ''} [{record.fidelity}]"


def page(name: str) -> Path:
    """The template of a page."""
    return Path(__file__).parent / "pages" / f"{name}.md.j2"


def said(name: str, /, **known: object) -> str:
    """The text beside a table, from a template in `pages`.

    Args:
        name: of the template.
        **known: what it names.
    """
    return prose.fill(page(name), **known).strip()
