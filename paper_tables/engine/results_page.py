"""The report in Markdown, for sites that show the Markdown in the folder of results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lla.report.contents import Claim, Report
from lla.report.prose import fill
from lla.report.text import markdown_table
from paper_tables.engine.pages import LEGEND
from paper_tables.paper import tables

INLINE = ("table2", "table4")  # shown here; the others have a page of their own
TEMPLATE = Path(__file__).with_name("results.md.j2")


def render(report: Report) -> str:
    """Write the Markdown page."""
    return fill(
        TEMPLATE,
        report=report,
        source=tables()["source"],
        claims=_claims(report.claims),
        legend=LEGEND,
        inlined=INLINE,
    )


def _claims(claims: Sequence[Claim]) -> str:
    """One line for each claim; scopes are grouped by verdict and fidelity, not-run ones last."""
    rows = []
    for claim in claims:
        groups: dict[tuple[bool, str], list[str]] = {}
        for outcome in claim.outcomes:
            absent = outcome.verdict == "not_run"
            fidelity = f" [{outcome.fidelity}]" if outcome.fidelity and not absent else ""
            words = outcome.verdict.replace("_", " ") + fidelity
            groups.setdefault((absent, words), []).extend(outcome.scopes)
        verdicts = "; ".join(f"{key[1]}: {', '.join(groups[key])}" for key in sorted(groups))
        rows.append((claim.id, claim.where, claim.statement, verdicts))
    return markdown_table(rows, ("id", "where", "claim", "verdict: scope"), aligned=False)
