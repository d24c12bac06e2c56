"""The report in Markdown, for sites that show the Markdown in the folder of results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lla.report.contents import Claim, Report
from lla.report.pages import summary
from lla.report.prose import fill
from lla.report.text import markdown_table
from lla.report.view import Table
from paper_tables.engine.pages import LEGEND
from paper_tables.paper import tables

INLINE = ("table2", "table4")  # shown here; the others have a page of their own
TEMPLATE = Path(__file__).with_name("results.md.j2")


def render(report: Report) -> str:
    """Write the Markdown page."""
    tables_here = [table for table in report.tables if not table.folded]
    elsewhere = [table for table in tables_here if _is_elsewhere(table)]
    return fill(
        TEMPLATE,
        report=report,
        shown=[table for table in tables_here if table not in elsewhere],
        elsewhere=elsewhere,
        source=tables()["source"],
        claims=_claims(report.claims),
        legend=LEGEND,
        inlined=INLINE,
    )


def _is_elsewhere(table: Table) -> bool:
    """Whether there is nothing to show of a table but where it is."""
    return bool(table.groups) and table.id not in INLINE and not summary(table)


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
        rows.append((claim.id, claim.work, claim.where, claim.statement, verdicts))
    return markdown_table(rows, ("id", "work", "where", "claim", "verdict: scope"), aligned=False)
