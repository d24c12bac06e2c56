"""The contents of a report, as plain values; `lla.report.html` writes them as a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lla.report.view import Table

CLAIM_VERDICTS = ("holds", "fails", "undecided", "not_run")

# A title and its text. Plain text is escaped, with empty lines between paragraphs and links to
# files beside the report as in Markdown: [words](page.md). HTML is passed as markupsafe.Markup.
Section = tuple[str, str]


@dataclass(frozen=True)
class Outcome:
    """A verdict on a claim, and the scopes that share it."""

    verdict: str  # of CLAIM_VERDICTS
    scopes: tuple[str, ...]
    fidelity: str | None = None
    note: str = ""
    rests_on: tuple[str, ...] = ()  # cells, in words


@dataclass(frozen=True)
class Claim:
    """A published claim with its verdicts."""

    id: str
    statement: str
    where: str
    decided_by: str
    outcomes: tuple[Outcome, ...]
    work: str = ""  # that makes the claim

    @property
    def judged(self) -> bool:
        """Whether any scope has a verdict."""
        return any(outcome.verdict != "not_run" for outcome in self.outcomes)


@dataclass(frozen=True)
class Legend:
    """The meaning of marks, with a sentence before the list and one after."""

    marks: tuple[tuple[str, str], ...]  # mark, meaning
    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class Picture:
    """One picture."""

    name: str  # of the file
    alt: str
    content: str  # base64
    kind: str = "png"  # or "webp"


@dataclass(frozen=True)
class Gallery:
    """A section of pictures, some of which can be turned and zoomed."""

    id: str
    title: str
    pictures: tuple[Picture, ...]
    plots: tuple[Mapping[str, Any], ...] = ()  # name, caption, data and layout of plotly
    kind: str = ""  # of the plots: "surfaces" or "spectra"
    label: str = ""  # label of the choice between plots
    absence: str = ""  # shown in an empty section; without it, that is left out


@dataclass(frozen=True)
class Environment:
    """What the numbers were computed with."""

    lead: str
    facts: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]  # fact, (value, records)
    inputs: tuple[tuple[str, str, str, int], ...]  # kind, name, sha256, records


@dataclass(frozen=True)
class Point:
    """A sentence, and what it lists."""

    text: str
    items: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """All that a report shows."""

    title: str
    lead: str
    claims: tuple[Claim, ...]
    claims_legend: Legend
    findings: tuple[Section, ...]
    tables: tuple[Table, ...]
    tables_legend: Legend
    galleries: tuple[Gallery, ...]
    environment: Environment
    commands: tuple[tuple[str, str], ...]  # aim, command
    answer: tuple[Point, ...] = ()  # what comes of it all, in a few sentences

    @property
    def claim_counts(self) -> list[tuple[str, int]]:
        """The number of scopes of claims with each verdict."""
        found: Counter[str] = Counter()
        for claim in self.claims:
            for outcome in claim.outcomes:
                found[outcome.verdict] += len(outcome.scopes)
        return [(verdict, found[verdict]) for verdict in CLAIM_VERDICTS if found[verdict]]
