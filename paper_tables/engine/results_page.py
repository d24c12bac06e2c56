"""The report in Markdown, for who reads the folder of results where Markdown is shown."""

from __future__ import annotations

from collections.abc import Iterable

from lla.report.text import markdown_table
from lla.report.view import Entry, Table
from paper_tables.engine.content import Report

__all__ = ["render"]

INLINE = ("table2", "table4")  # shown here; the others have a page of their own

INTRODUCTION = """# Results

The claims, tables and figures of {source}, each with the published value beside the measured one,
made from the records in [`records/`](records/). The same with pictures that can be turned and
zoomed, and with the run behind every number: [report.html](report.html), one page that needs
no network."""

LEGEND = """A cell: measured ± standard error (the paper's value), verdict, [fidelity].
*reproduced*: within 2 standard errors and half a unit of the paper's last digit; *close*: within
the paper's own scatter; else *differs*. Fidelity: *paper*, the same model, data and settings;
*reduced*, less of them; *substitute*, a stand-in, which is never judged."""


def render(report: Report) -> str:
    """Write the Markdown page."""
    parts = [INTRODUCTION.format(source=report.source), "## Claims", _claim_counts(report),
             _claims(report)]  # fmt: skip
    for finding in report.findings:
        parts += [f"## {finding.title}", finding.text]
    parts += ["## Tables", LEGEND]
    for table in report.tables:
        if not table.folded:
            parts += _table(table)
    parts += ["## Figures", *(f"![{f.alt}](figures/{f.name})" for f in report.figures)]
    parts += ["## Environment and commands", *_environment(report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _claim_counts(report: Report) -> str:
    scopes = sum(count for _, count in report.claim_counts)
    return (
        f"{len(report.claims)} claims in {scopes} scopes: {_counts(report.claim_counts)}. What "
        "each verdict rests on: [claims.md](claims.md)."
    )


def _claims(report: Report) -> str:
    """One line a claim; scopes of equal verdict and fidelity together, those not run last."""
    rows = []
    for claim in report.claims:
        groups: dict[tuple[bool, str], list[str]] = {}
        for j in claim.judgements:
            fidelity = f" [{j.fidelity}]" if j.fidelity and j.verdict != "not_run" else ""
            key = (j.verdict == "not_run", f"{_words(j.verdict)}{fidelity}")
            groups.setdefault(key, []).append(j.scope)
        verdicts = "; ".join(f"{key[1]}: {', '.join(groups[key])}" for key in sorted(groups))
        first = claim.judgements[0].claim
        rows.append((first.id, first.where, first.statement, verdicts))
    return markdown_table(rows, ("id", "where", "claim", "verdict: scope"), aligned=False)


def _table(table: Table) -> list[str]:
    heading = f"### {table.title}"
    if not table.groups:
        return [heading, table.absence]
    counts = f"Cells by verdict: {_counts(table.counts)}." if table.counts else ""
    files = ", ".join(f"[{file}]({file})" for file in table.files)
    where = f"{'As files' if table.id in INLINE else 'In full'}: {files}." if files else ""
    more = f"{counts} {where}".strip()
    if table.id not in INLINE:
        return [heading, more]
    rows = [
        [group.name, group.settings, line.name, *map(_cell, line.cells)]
        if i == 0
        else ["", "", line.name, *map(_cell, line.cells)]
        for group in table.groups
        for i, line in enumerate(group.lines)
    ]
    headers = ["network", "settings", "criterion", *table.columns]
    return [heading, more, markdown_table(rows, headers, aligned=False)]


def _cell(cell: Entry | None) -> str:
    if cell is None:
        return ""
    paper = "" if cell.paper is None else f" ({cell.paper})"
    verdict = f" {_words(cell.verdict)}" if cell.verdict not in (None, "not_run") else ""
    fidelity = f" [{cell.fidelity}]" if cell.fidelity else ""
    return f"{cell.text}{paper}{verdict}{fidelity}"


def _environment(report: Report) -> list[str]:
    e = report.environment
    facts = [
        f"- {name}: {', '.join(f'{value} ({count})' for value, count in values)}"
        for name, values in e.software
    ]
    parts = [
        f"{e.measured} records with a value, of {e.cells} cells that took {e.seconds / 3600:.1f} "
        "hours together. In brackets: records.",
        "\n".join(facts),
    ]
    return [*parts, *(f"{name}:\n\n```sh\n{command}\n```" for name, command in report.commands)]


def _counts(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{count} {_words(word)}" for word, count in counts)


def _words(verdict: str | None) -> str:
    return (verdict or "").replace("_", " ")
