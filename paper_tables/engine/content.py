"""Everything that the report says, gathered from records before it is written as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lla.report.contents import Claim, Gallery, Legend, Outcome, Report, Section
from lla.report.view import Table
from paper_tables import paper
from paper_tables.engine import claims, figure_list, plots
from paper_tables.engine.claims import Judgement
from paper_tables.engine.environment_section import commands, environment
from paper_tables.engine.pages import VERDICT
from paper_tables.engine.records import Record
from paper_tables.exhibits.cost import tables as cost
from paper_tables.exhibits.generalization import tables as generalization
from paper_tables.exhibits.normalization import tables as normalization
from paper_tables.exhibits.resnet_study import tables as resnet_study
from paper_tables.exhibits.table1 import tables as table1
from paper_tables.exhibits.table2 import tables as table2
from paper_tables.exhibits.table3 import tables as table3
from paper_tables.exhibits.table4 import tables as table4
from paper_tables.paper.names import display

__all__ = ["gather", "tables"]

EXHIBITS = (table1, table2, table3, table4, generalization, normalization, cost, resnet_study)

TITLE = "Loss landscapes and Hessian spectra, measured again"
LEAD = (
    "The claims, tables and figures of {source}, each with the published value beside the measured "
    "one. Every number comes from a record: open a value (dotted line) to see its data, weights, "
    "settings and run."
)
CLAIMS_LEGEND = Legend(
    before="A verdict in which chance plays a part rests on 95 % intervals. The badge is the "
    "fidelity of the least faithful cell that a verdict rests on:",
    marks=(
        ("paper", "the paper's own model, data and settings"),
        ("reduced", "less of them"),
        ("substitute", "a stand-in, on which no claim and no value is judged"),
    ),
)
TABLES_LEGEND = Legend(
    marks=(*VERDICT.items(), ("not_run", "with the reason")),
    after="Without a mark: the paper prints no value, the input is a stand-in, or the number of "
    "Lanczos steps, on which K_H05 depends, is not the paper's.",
)


def gather(records: Sequence[Record], results: Path, findings: Sequence[Section] = ()) -> Report:
    """Gather everything.

    Args:
        records: all published records.
        results: the folder of results, with the figures and the artifacts that records name.
        findings: sections of prose.

    Raises:
        ChecksumError: an artifact is not the one that its record names.
    """
    return Report(
        title=TITLE,
        lead=LEAD.format(source=paper.tables()["source"]),
        claims=_claims(claims.judge(records)),
        claims_legend=CLAIMS_LEGEND,
        findings=tuple(findings),
        tables=tuple(
            sorted(
                (table for table in tables(records) if table.groups or not table.folded),
                key=lambda table: table.folded,
            )
        ),
        tables_legend=TABLES_LEGEND,
        galleries=_galleries(records, results),
        environment=environment(records),
        commands=commands(),
    )


def tables(records: Sequence[Record]) -> list[Table]:
    """The tables of all exhibits."""
    return [table for exhibit in EXHIBITS for table in exhibit.tables(records)]


def _claims(judgements: Sequence[Judgement]) -> tuple[Claim, ...]:
    """Scopes with the same verdict on a claim for the same reason together, in order."""
    by_claim: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        by_claim.setdefault(judgement.claim.id, []).append(judgement)
    found = []
    for mine in by_claim.values():
        outcomes: dict[tuple[object, ...], list[Judgement]] = {}
        for j in mine:
            outcomes.setdefault((j.verdict, j.fidelity, j.cells, j.note), []).append(j)
        c = mine[0].claim
        same = tuple(map(_outcome, outcomes.values()))
        found.append(Claim(c.id, c.statement, c.where, c.decided_by, same))
    return tuple(found)


def _outcome(same: Sequence[Judgement]) -> Outcome:
    first = same[0]
    scopes = tuple(", ".join(map(display, j.scope.split(", "))) for j in same)
    return Outcome(first.verdict, scopes, first.fidelity, first.note, first.cells)


def _galleries(records: Sequence[Record], results: Path) -> tuple[Gallery, ...]:
    pictures = figure_list.pictures(results)
    return (
        Gallery(
            "surface",
            "Loss surfaces",
            tuple(pictures.pop("landscape", ())),
            tuple(plots.surfaces(records, results)),
            kind="surfaces",
            label="Loss surface to turn: which plane",
            absence="no plane of enough points yet",
        ),
        Gallery(
            "spectra",
            "Spectra",
            tuple(pictures.pop("hesd", ())),
            tuple(plots.spectra(records, results)),
            kind="spectra",
            label="Hessian spectrum to zoom: which network",
            absence="no spectrum yet",
        ),
        Gallery("figures", "Other figures", tuple(p for kind in pictures.values() for p in kind)),
    )
