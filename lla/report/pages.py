"""Tables for reading without a browser: Markdown, LaTeX, and plain text for the terminal.

All three show the same entries: the value, the published one in round brackets, the verdict and, in
square brackets, the fidelity. Empty columns are left out. The reason why
something was not run is given once, in a numbered note below its table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from lla.report.text import LATEX_NEEDS, latex_float, markdown_table, markdown_text, plain_table
from lla.report.view import VERDICTS, Entry, Group, Line, Table

WORDS = {verdict: verdict.replace("_", " ") for verdict in VERDICTS}
SIGNS = {"reproduced": "=", "close": "~", "differs": "x"}  # short, for the terminal
KEY = "(the paper's value)  = reproduced  ~ close  x differs from the paper"

Cells = list[list[str]]
Notes = dict[str, int]  # reason -> its number, in order


def markdown(tables: Sequence[Table], legend: str = "") -> str:
    """A page of tables.

    Args:
        tables: of the page; the page has the name of the first one.
        legend: explains how to read entries, for all tables.
    """
    parts = []
    for i, table in enumerate(tables):
        parts += [f"{'##' if i else '#'} {markdown_text(table.title)}", "" if i else legend,
                  markdown_text(table.legend),
                  summary(table), grid(table)]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def latex(tables: Sequence[Table], legend: str = "") -> str:
    """A float for each table with entries; for the arguments see `markdown`."""
    parts = [LATEX_NEEDS]
    for i, table in enumerate(tables):
        notes: Notes = {}
        rows, headers = _rows(table, notes)
        caption = [f"{table.title}.", "" if i else legend, table.legend, summary(table)]
        text = " ".join(part for part in caption if part)
        parts += [latex_float(text.replace("*", ""), rows, headers, list(notes))] if rows else []
    return "\n".join(parts) + "\n"


def terminal(tables: Sequence[Table]) -> str:
    """The measured entries, for the terminal; long tables are left out.

    Args:
        tables: any; folded ones are shown only if no other one has a measured entry.
    """
    measured = [(table, _measured(table)) for table in tables]
    there = [(table, groups) for table, groups in measured if groups]
    short = [(table, groups) for table, groups in there if not table.folded] or there
    return "\n\n".join([*(_plain(table, groups) for table, groups in short), *[KEY][: len(short)]])


def grid(table: Table, aligned: bool = True) -> str:
    """The lines of a table in Markdown with its notes; if it has no lines, the reason.

    Args:
        table: to write.
        aligned: pad cells with spaces, which makes the source readable but longer.
    """
    notes: Notes = {}
    rows, headers = _rows(table, notes)
    if not rows:
        return markdown_text(table.absence)
    numbered = "\n".join(f"{i}. {markdown_text(reason)}" for reason, i in notes.items())
    text = markdown_table(rows, headers, aligned)
    return f"{text}\n\n{numbered}" if numbered else text


def summary(table: Table) -> str:
    """The number of entries with each verdict, by kind of group; empty without entries."""
    kinds: dict[str, Counter[str]] = {}
    missing = 0
    for group, entry in table.entries:
        if entry.verdict == "not_run":
            missing += 1
        elif entry.verdict:
            kinds.setdefault(group.kind, Counter())[entry.verdict] += 1
    several = len(kinds) > 1
    parts = []
    for kind, counts in kinds.items():
        words = ", ".join(f"{counts[v]} {WORDS[v]}" for v in VERDICTS if counts[v])
        parts.append(f"{kind}: {words}" if kind and several else words)
    parts += [f"{missing} {WORDS['not_run']}"] if missing else []
    return f"Cells by verdict: {('; ' if several else ', ').join(parts)}." if parts else ""


def _rows(table: Table, notes: Notes) -> tuple[Cells, list[str]]:
    """Headers and rows of text, without empty columns; adds new reasons to the notes."""
    rows = [
        [
            *([group.name, _with_fidelity(group.settings, group)] if i == 0 else ["", ""]),
            line.name,
            _remark(line, notes),
            *(_text(entry, notes, WORDS) for entry in line.entries),
        ]
        for group in table.groups
        for i, line in enumerate(group.lines)
    ]
    return _without_empty(rows, [table.heads[0], "settings", table.heads[1], "", *table.columns])


def _without_empty(rows: Cells, headers: list[str], kept: int = 0) -> tuple[Cells, list[str]]:
    """The first columns, which are always kept, and all others that are not empty."""
    used = [i for i in range(len(headers)) if i < kept or any(row[i] for row in rows)]
    return [[row[i] for i in used] for row in rows], [headers[i] for i in used]


def _remark(line: Line, notes: Notes) -> str:
    if line.reason:
        return f"not run, note {_number(line.reason, notes)}"
    return _with_fidelity(line.remark, line)


def _with_fidelity(text: str, of: Group | Line) -> str:
    return " ".join(part for part in (text, of.fidelity and f"[{of.fidelity}]") if part)


def _text(entry: Entry | None, notes: Notes | None, words: Mapping[str, str]) -> str:
    """One entry; with notes, the reason for not running goes into these."""
    if entry is None:
        return ""
    verdict = "" if entry.verdict == "not_run" else words.get(entry.verdict or "", "")
    text, remark = entry.text, entry.remark
    if entry.reason:  # the note includes the remark
        text = "not run" + (f", note {_number(entry.reason, notes)}" if notes is not None else "")
        remark = ""
    parts = (
        text,
        "" if entry.paper is None else f"({entry.paper})",
        verdict,
        entry.fidelity and f"[{entry.fidelity}]",
    )
    joined = " ".join(part for part in parts if part)
    return f"{joined}, {remark}" if remark else joined


def _number(reason: str, notes: Notes) -> int:
    return notes.setdefault(reason, len(notes) + 1)


def _measured(table: Table) -> list[Group]:
    """The groups with measured entries, without lines that were not run."""
    groups = []
    for group in table.groups:
        lines = [x for x in group.lines if any(e.verdict != "not_run" for e in x.present)]
        if any(entry.traces for line in lines for entry in line.present):
            groups.append(Group(group.name, group.settings, tuple(lines), group.fidelity))
    return groups


def _plain(table: Table, groups: Sequence[Group]) -> str:
    """A table under its title, the name of each group above its lines."""
    rows = [
        [line.name, _with_fidelity("", line), *(_text(e, None, SIGNS) for e in line.entries)]
        for group in groups
        for line in group.lines
    ]
    shown = _without_empty(rows, [table.heads[1], "", *table.columns], kept=1)
    head, rule, *body = plain_table(*shown).splitlines()
    lines = [table.title, head, rule]
    for group in groups:
        if group.name:
            lines.append(f"{group.name}  {_with_fidelity(group.settings, group)}".rstrip())
        lines += body[: len(group.lines)]
        body = body[len(group.lines) :]
    return "\n".join(lines)
