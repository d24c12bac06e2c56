"""An exhibit: all there is about one table, figure group or study, as one value.

A folder of `paper_tables.exhibits` holds an exhibit and hands it to the engine under the name
`EXHIBIT`. The engine computes its cells, and writes its tables, figures, claims and findings to
every format; it knows no exhibit by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from matplotlib.figure import Figure

from lla.report.view import Table
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.records import Record
from paper_tables.paper import WORK, Claim

Records = Sequence[Record]
Verdict = Literal["holds", "fails", "undecided", "not_run"]


class MissingError(Exception):
    """A predicate lacks records that it needs; the text says which, or why there are none."""


class ClaimScope(NamedTuple):
    """A claim in one of the scopes in which it is judged."""

    claim: str  # its id, "T2.kh05"
    scope: str  # "lenet"


@dataclass(frozen=True)
class Decision:
    """What a predicate says of a claim."""

    verdict: Verdict
    records: tuple[Record, ...]  # the evidence for the verdict
    note: str = ""
    many: bool = False  # there are many cells, so pages name only their rows


Predicate = Callable[[Records], Decision]
"""Takes all published records; raises `MissingError` if they do not decide the claim."""


@dataclass(frozen=True)
class Drawing:
    """One figure: `figures/<name>.png`."""

    name: str
    kind: str  # the section of the report: "surfaces", "spectra" or "figures"
    alt: str  # what it shows, for readers who cannot see it
    records: tuple[Record, ...]  # it is drawn again only if these or its code change
    draw: Callable[[Path], Figure]  # takes the folder of the records' artifacts
    colours: int | None = None  # size of the file's palette; None: no palette


@dataclass(frozen=True)
class Plot:
    """One picture that can be turned and zoomed in the report."""

    kind: Literal["surfaces", "spectra"]
    data: Mapping[str, Any]  # name, caption, data and layout of plotly


@dataclass(frozen=True)
class Finding:
    """Paragraphs under a title, with numbers from records."""

    title: str
    text: str


def _nothing(*_: object) -> list[Any]:
    return []


def _no_pages(_: Records) -> dict[str, str]:
    return {}


def _no_claims() -> dict[ClaimScope, Predicate]:
    return {}


@dataclass(frozen=True)
class Exhibit:
    """All there is about one table, figure group or study."""

    name: str  # "table3": names its pages, and selects it on the command line
    work: str = WORK  # the work that it belongs to; pages and claims are grouped by it
    cells: Callable[[Settings], list[Cell]] = _nothing
    tables: Callable[[Records], list[Table]] = _nothing  # one view; every format is written from it
    figures: Callable[[Records], list[Drawing]] = _nothing
    plots: Callable[[Records, Path], list[Plot]] = _nothing  # takes the folder of results
    # file -> text: pages beside the tables; `<name>.md` here replaces the page of the tables
    pages: Callable[[Records], Mapping[str, str]] = _no_pages
    claims: Mapping[ClaimScope, Predicate] = field(default_factory=_no_claims)
    statements: tuple[Claim, ...] = ()  # claims that are not in `paper`: those of other works
    claims_legend: str = ""  # explains the words of its claims, on the page of claims
    findings: Callable[[Records], list[Finding]] = _nothing
    sources: tuple[str, ...] = ()  # the tables whose records it owns; by default its name
    order: int = 100  # its position among the exhibits of its work
