"""What the end of a session says: what came of the claims, and what did not run and why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from paper_tables.engine import claims, report
from paper_tables.engine.claims import Judgement
from paper_tables.engine.exhibit import Records
from paper_tables.engine.records import Record
from paper_tables.paper.names import display

ALIKE = 0.2  # share of words in which two texts of one kind may differ


def ending(judgements: Sequence[Judgement], absent: Records, results: Path) -> str:
    """The last words of a session.

    Args:
        judgements: on every claim; none if nothing was rendered.
        absent: a record of each cell that did not run.
        results: the folder of results.
    """
    lines = []
    if judgements:
        lines += [
            f"{claims.counts(judgements)} (claims.md says why)",
            f"report: {(results / report.PAGE).resolve()}; tables, claims and figures beside it",
        ]
    if absent:
        lines.append("not run, and what would make it run:")
        lines += [f"- {_line(kind)}" for kind in kinds(absent)]
    return "\n".join(lines)


def kinds(absent: Records) -> list[list[Record]]:
    """Group cells that did not run by what would make them run; the largest group comes first.

    Args:
        absent: a record of each, with a reason "what is missing: what to do".
    """
    found: list[list[Record]] = []
    for record in absent:
        same = (kind for kind in found if _alike(_remedy(kind[0]), _remedy(record)))
        kind = next(same, None)
        if kind is None:
            found.append([record])
        else:
            kind.append(record)
    return sorted(found, key=len, reverse=True)


def _line(kind: Sequence[Record]) -> str:
    rows = ", ".join(dict.fromkeys(display(record.row) for record in kind))
    tables = ", ".join(dict.fromkeys(record.table for record in kind))
    count = f"{len(kind)} cell{'' if len(kind) == 1 else 's'} of {tables} ({rows})"
    causes = [str(record.reason).partition(": ")[0] for record in kind]
    # causes of many sorts have no common wording; the cells' own pages give each
    cause = [merged(causes)] if all(_alike(causes[0], other) for other in causes) else []
    remedies = [merged([_remedy(record) for record in kind])] if ": " in str(kind[0].reason) else []
    return ": ".join([count, *cause, *remedies])


def _remedy(record: Record) -> str:
    """What to do; the whole reason where it says nothing of that."""
    cause, _, remedy = str(record.reason).partition(": ")
    return remedy or cause


def merged(texts: Sequence[str]) -> str:
    """One text for texts that differ in single words, with the alternatives side by side.

    >>> merged(["fetch svhn first", "fetch mnist first"])
    'fetch svhn|mnist first'
    """
    columns = zip(*map(_tokens, dict.fromkeys(texts)), strict=True)
    return "".join("|".join(dict.fromkeys(column)) for column in columns)


def _alike(one: str, other: str) -> bool:
    """Whether two texts are equal but for a few words."""
    pairs = list(zip(_tokens(one), _tokens(other), strict=False))
    if len(_tokens(one)) != len(_tokens(other)):
        return False
    words = sum(a[0].isalnum() for a, _ in pairs)
    return sum(a != b for a, b in pairs) <= ALIKE * words


def _tokens(text: str) -> list[str]:
    """Words and names of files, and what stands between them."""
    return re.findall(r"\w[\w.-]*\w|\w|\W", text)
