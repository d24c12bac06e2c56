"""What a page shows: tables of entries as plain values, independent of their source.

Every format is written from these: Markdown, LaTeX and the terminal by `lla.report.pages`, HTML by
`lla.report.html`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

VERDICTS = ("reproduced", "close", "differs", "not_run")


@dataclass(frozen=True)
class Trace:
    """The source of a number: all that a reader needs to find it or to compute it again."""

    title: str
    facts: tuple[tuple[str, str], ...]  # name, value


@dataclass(frozen=True)
class Bar:
    """A value with its error bar beside the paper's value, in percent of the width."""

    value: float
    low: float  # 2 standard errors below; the value itself without a standard error
    high: float
    paper: float | None
    scale: str  # in words


@dataclass(frozen=True)
class Chip:
    """A part of an entry with its own verdict."""

    text: str
    verdict: str | None


@dataclass(frozen=True)
class Entry:
    """One number or word of a table, with what is known of it."""

    text: str
    paper: str | None = None  # as printed
    verdict: str | None = None  # of VERDICTS
    fidelity: str | None = None
    remark: str = ""
    reason: str = ""  # why it was not run; may be long, so a page says it once
    bar: Bar | None = None
    chips: tuple[Chip, ...] = ()
    traces: tuple[Trace, ...] = ()


@dataclass(frozen=True)
class Line:
    """One line of a table; None is an empty entry."""

    name: str
    entries: tuple[Entry | None, ...]
    remark: str = ""
    fidelity: str | None = None
    reason: str = ""  # why none of it was run

    @property
    def present(self) -> list[Entry]:
        """Its entries, without the empty ones."""
        return [entry for entry in self.entries if entry is not None]


@dataclass(frozen=True)
class Group:
    """Lines that share a network or settings."""

    name: str
    settings: str
    lines: tuple[Line, ...]
    fidelity: str | None = None
    kind: str = ""  # verdicts are counted by kind: "plain", "legacy"


@dataclass(frozen=True)
class Table:
    """One table of a page."""

    id: str
    title: str
    legend: str  # plain text that suits every format
    columns: tuple[str, ...]
    groups: tuple[Group, ...]
    heads: tuple[str, str] = ("", "")  # above the groups' and the lines' names
    folded: bool = False  # long, so that it is shown on demand
    files: tuple[str, ...] = ()  # beside the report
    absence: str = "not run: no record yet"  # shown if there are no groups

    @property
    def entries(self) -> list[tuple[Group, Entry]]:
        """Every entry with its group."""
        return [(group, e) for group in self.groups for line in group.lines for e in line.present]

    @property
    def counts(self) -> list[tuple[str, int]]:
        """The number of entries with each verdict, in the order of `VERDICTS`."""
        found = Counter(entry.verdict for _, entry in self.entries)
        return [(verdict, found[verdict]) for verdict in VERDICTS if found[verdict]]

    def has(self, part: str) -> bool:
        """Whether any entry has a part: "bar", "chips", "traces"."""
        return any(getattr(entry, part) for _, entry in self.entries)


def absences(table: Table, group: Group) -> list[str]:
    """What was not run in a group, and why; each reason is given once."""
    found: dict[str, list[str]] = {}
    for line in group.lines:
        if line.reason:
            found.setdefault(line.reason, []).append(line.name)
        for column, entry in zip(table.columns, line.entries, strict=True):
            if entry is not None and entry.reason:
                found.setdefault(entry.reason, []).append(column)
    there = [entry for line in group.lines for entry in line.present]
    whole = len(found) == 1 and all(entry.reason for entry in there) and bool(there)
    return [
        f"{'' if whole else ', '.join(dict.fromkeys(names)) + ' '}not run: {reason}"
        for reason, names in found.items()
    ]
