"""Everything that the report says, gathered from records before it is written as a page."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lla.report.view import Table
from paper_tables.engine import environment_section as environment
from paper_tables.engine.claims import VERDICTS, Judgement
from paper_tables.engine.environment_section import Environment
from paper_tables.engine.exhibit import Drawing, Exhibit, Finding, Records
from paper_tables.engine.figures import path_of
from paper_tables.engine.records import Record
from paper_tables.evidence import criteria_table
from paper_tables.exhibits.generalization import tables as run_table
from paper_tables.exhibits.generalization.cells import TABLE as RUNS
from paper_tables.exhibits.normalization import tables as study_tables
from paper_tables.exhibits.normalization.cells import TABLE as STUDY
from paper_tables.exhibits.table1 import planes
from paper_tables.exhibits.table1 import tables as plane_tables
from paper_tables.exhibits.table3 import tables as size_table
from paper_tables.exhibits.table3.cells import TABLE as SIZES
from paper_tables.exhibits.table4 import tables as difference_table
from paper_tables.paper import Claim, tables

__all__ = ["Figure", "JudgedClaim", "Report", "gather"]


@dataclass(frozen=True)
class JudgedClaim:
    """A claim with its verdict in every scope."""

    claim: Claim
    judgements: tuple[Judgement, ...]

    @property
    def outcomes(self) -> list[tuple[tuple[str, ...], Judgement]]:
        """Scopes with the same verdict for the same reason together, in order."""
        found: dict[tuple[object, ...], list[Judgement]] = {}
        for j in self.judgements:
            found.setdefault((j.verdict, j.fidelity, j.cells, j.note), []).append(j)
        return [(tuple(j.scope for j in group), group[0]) for group in found.values()]

    @property
    def judged(self) -> bool:
        """Whether there is a verdict in any scope."""
        return any(judgement.verdict != "not_run" for judgement in self.judgements)


@dataclass(frozen=True)
class Figure:
    """One picture, embedded, with a text for readers who cannot see it."""

    name: str  # of the file
    kind: str  # see `Drawing`
    alt: str
    content: str  # base64


@dataclass(frozen=True)
class Report:
    """What stands in the report."""

    source: str  # the paper
    claims: tuple[JudgedClaim, ...]
    findings: tuple[Finding, ...]
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]
    surfaces: tuple[Mapping[str, Any], ...]
    spectra: tuple[Mapping[str, Any], ...]
    environment: Environment
    commands: tuple[tuple[str, str], ...]

    @property
    def claim_counts(self) -> list[tuple[str, int]]:
        """How many scopes of claims have which verdict."""
        found: Counter[str] = Counter(j.verdict for claim in self.claims for j in claim.judgements)
        return [(verdict, found[verdict]) for verdict in VERDICTS if found[verdict]]


def gather(
    exhibits: Sequence[Exhibit],
    records: Records,
    judgements: Sequence[Judgement],
    drawings: Sequence[Drawing],
    results: Path,
) -> Report:
    """Gather everything.

    Args:
        exhibits: all of them.
        records: all published records.
        judgements: on every claim.
        drawings: the figures, which are drawn before.
        results: the folder of results, with the figures and the artifacts that records name.

    Raises:
        ChecksumError: an artifact is not the one that its record names.
    """
    by_claim: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        by_claim.setdefault(judgement.claim.id, []).append(judgement)
    plots = [plot for exhibit in exhibits for plot in exhibit.plots(records, results)]
    return Report(
        source=tables()["source"],
        claims=tuple(JudgedClaim(found[0].claim, tuple(found)) for found in by_claim.values()),
        findings=tuple(found for exhibit in exhibits for found in exhibit.findings(records)),
        tables=_tables(records),
        figures=tuple(_embedded(d, results) for d in sorted(drawings, key=lambda d: d.name)),
        surfaces=tuple(plot.data for plot in plots if plot.kind == "surfaces"),
        spectra=tuple(plot.data for plot in plots if plot.kind == "spectra"),
        environment=environment.environment(records),
        commands=environment.commands(),
    )


def _embedded(drawing: Drawing, results: Path) -> Figure:
    path = path_of(drawing, results)
    content = base64.b64encode(path.read_bytes()).decode()
    return Figure(path.name, drawing.kind, drawing.alt, content)


def _tables(records: Sequence[Record]) -> tuple[Table, ...]:
    """The paper's tables, the study, then what else was measured and the long ones."""
    criteria = [name for name, entry in tables().items() if _has_criteria(entry)]
    known = {*criteria, planes.TABLE, SIZES, STUDY, RUNS}
    others = sorted({record.table for record in records} - known)
    papers = [
        plane_tables.table1(records),
        size_table.table(records),
        *(criteria_table.table(records, name) for name in criteria),
    ]
    found = [
        *sorted(papers, key=lambda table: table.id),
        difference_table.table(records),
        run_table.table(records),
        study_tables.summary(records),
        plane_tables.every_ratio(records),
        study_tables.planes(records),
        *(criteria_table.table(records, name) for name in others),
    ]
    return tuple(table for table in found if table.groups or not table.folded)


def _has_criteria(entry: object) -> bool:
    """Whether a table of the paper has criteria in its cells; Table 1 has words, Table 3 sizes."""
    if not isinstance(entry, dict):
        return False
    cells = [cell for row in entry.get("rows", {}).values() for cell in row.values()]
    return any(isinstance(cell, dict) and "kh1" in cell for cell in cells)
