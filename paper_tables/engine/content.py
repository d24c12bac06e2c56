"""Everything that the report says, gathered from records before it is written as a page."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

from lla.report.contents import Claim, Gallery, Legend, Outcome, Picture, Report
from lla.report.view import Table
from paper_tables import paper
from paper_tables.engine import summary
from paper_tables.engine.claims import Judgement
from paper_tables.engine.costs import costs
from paper_tables.engine.environment_section import commands, environment
from paper_tables.engine.exhibit import Drawing, Exhibit, Records
from paper_tables.engine.figures import path_of
from paper_tables.engine.pages import VERDICT
from paper_tables.paper.names import display_scope

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
        ("replication", "the same question on other networks or data of the same kind"),
        ("substitute", "a stand-in, on which no claim and no value is judged"),
    ),
)
TABLES_LEGEND = Legend(
    marks=(*VERDICT.items(), ("not_run", "with the reason")),
    after="Without a mark: the paper prints no value, the input is a stand-in, or the number of "
    "Lanczos steps, on which K_H05 depends, is not the paper's.",
)


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
        drawings: the figures; their files exist already.
        results: the folder of results, with the figures and the artifacts that records name.

    Raises:
        ChecksumError: an artifact is not the one that its record names.
    """
    findings = [found for exhibit in exhibits for found in exhibit.findings(records)]
    every = [*tables(exhibits, records), costs(judgements)]
    shown = [table for table in every if table.groups or not table.folded]
    return Report(
        title=TITLE,
        lead=LEAD.format(source=paper.tables()["source"]),
        answer=summary.points(judgements, records),
        claims=_claims(judgements),
        claims_legend=CLAIMS_LEGEND,
        findings=tuple((found.title, found.text) for found in findings),
        tables=tuple(sorted(shown, key=lambda table: table.folded)),
        tables_legend=TABLES_LEGEND,
        galleries=_galleries(exhibits, records, drawings, results),
        environment=environment(records),
        commands=commands(),
    )


def tables(exhibits: Sequence[Exhibit], records: Records) -> list[Table]:
    """The tables of all exhibits; one that names no file of its own is on its exhibit's page."""
    return [
        dataclasses.replace(table, files=table.files or (f"{exhibit.name}.md",))
        if table.groups
        else table
        for exhibit in exhibits
        for table in exhibit.tables(records)
    ]


def _claims(judgements: Sequence[Judgement]) -> tuple[Claim, ...]:
    """The claims in order; scopes with the same verdict for the same reason share an outcome."""
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
        found.append(Claim(c.id, c.statement, c.where, c.decided_by, same, mine[0].work))
    return tuple(found)


def _outcome(same: Sequence[Judgement]) -> Outcome:
    first = same[0]
    scopes = tuple(display_scope(j.scope) for j in same)
    return Outcome(first.verdict, scopes, first.fidelity, first.note, first.cells)


def _galleries(
    exhibits: Sequence[Exhibit], records: Records, drawings: Sequence[Drawing], results: Path
) -> tuple[Gallery, ...]:
    plots = [plot for exhibit in exhibits for plot in exhibit.plots(records, results)]
    ordered = sorted(drawings, key=lambda drawing: drawing.name)

    def gallery(kind: str, id: str, title: str, label: str = "", absence: str = "") -> Gallery:
        pictures = (_embedded(drawing, results) for drawing in ordered if drawing.kind == kind)
        data = (plot.data for plot in plots if plot.kind == kind)
        return Gallery(id, title, tuple(pictures), tuple(data), kind, label, absence)

    return (
        gallery(
            "surfaces",
            "surface",
            "Loss surfaces",
            "Loss surface to turn: which plane",
            "no plane of enough points yet",
        ),
        gallery(
            "spectra",
            "spectra",
            "Spectra",
            "Hessian spectrum to zoom: which network",
            "no spectrum yet",
        ),
        gallery("figures", "figures", "Other figures"),
    )


def _embedded(drawing: Drawing, results: Path) -> Picture:
    path = path_of(drawing, results)
    return Picture(path.name, drawing.alt, base64.b64encode(_small(path)).decode(), "webp")


def _small(path: Path) -> bytes:
    """A picture as WebP in 256 colours: that keeps the page small; the file has all of them."""
    from PIL import Image

    content = io.BytesIO()
    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        few.convert("RGB").save(content, "WEBP", lossless=True)
    return content.getvalue()
