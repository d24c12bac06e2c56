"""Verdicts on the paper's claims, from records alone.

What decides a claim stands in `paper_tables.claims_*`, by subject; the most faithful settings that
have all it needs are judged.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lla.report.text import markdown_table
from paper_tables.engine.fidelity import least_faithful
from paper_tables.engine.records import Record, atomic_write
from paper_tables.evidence.criteria import (
    ALMOST_NONE,
    LARGE_RE,
    LARGE_SHARE,
    MARGIN,
    NO_FALL,
    PREDICATES,
    Finding,
    MissingError,
    evidence_on,
    not_ordered,
)
from paper_tables.evidence.intervals import Verdict
from paper_tables.exhibits.cost import claims as claims_cost
from paper_tables.exhibits.generalization import claims as claims_generalization
from paper_tables.exhibits.table1 import claims as claims_landscape
from paper_tables.exhibits.table3 import claims as claims_sizes
from paper_tables.paper import Claim, claims

__all__ = ["Judgement", "judge", "write"]


@dataclass(frozen=True)
class Judgement:
    """The verdict on one claim in one scope."""

    claim: Claim
    scope: str
    verdict: Verdict
    fidelity: str | None = None  # of the least faithful cell it rests on
    cells: tuple[str, ...] = ()  # "table2 lenet random/eval"
    note: str = ""


def judge(records: Sequence[Record]) -> list[Judgement]:
    """Judge every claim in every scope.

    Args:
        records: all published records.

    Returns:
        One judgement a claim and scope, in the order of the claims. What cannot be judged is
        `not_run`, with the reason as its note.
    """
    return [
        _judge_one(claim, scope, missing, records)
        for claim in claims()
        for scope, missing in claim.scopes.items()
    ]


def _judge_one(
    claim: Claim, scope: str, missing: str | None, records: Sequence[Record]
) -> Judgement:
    if missing is not None:
        return Judgement(claim, scope, "not_run", note=missing)
    if (claim.id, scope) in claims_landscape.PREDICATES:
        found = claims_landscape.judge(claim.id, scope, records)
        cells = tuple(dict.fromkeys(f"{r.table} {r.row}" for r in found.records))
        return Judgement(claim, scope, found.verdict, found.fidelity, cells, found.note)
    reason = "no cell of it was computed yet"
    for attempt in _attempts(claim, scope, records):
        try:
            verdict, used, note = attempt()
        except MissingError as error:
            reason = f"not computed yet: {error}"
            continue
        fidelity = least_faithful(r.fidelity for r in used)
        cells = tuple(dict.fromkeys(f"{r.table} {r.row} {r.column}" for r in used))
        if fidelity == "substitute":
            note = f"only stand-in data, on which it would be {verdict!r}: {note}"
            return Judgement(claim, scope, "not_run", fidelity, cells, note)
        return Judgement(claim, scope, verdict, fidelity, cells, note)
    return Judgement(claim, scope, "not_run", note=reason)


def _attempts(claim: Claim, scope: str, records: Sequence[Record]) -> list[Callable[[], Finding]]:
    """What may decide, in turn: a claim's predicate on each evidence, the most faithful first."""
    if claim.id == "T2.noabs":
        return [functools.partial(not_ordered, records)]
    if claim.id == "D.sizes":
        return [functools.partial(claims_sizes.sizes, records)]
    on_all = claims_generalization.PREDICATES | claims_cost.PREDICATES
    if (claim.id, scope) in on_all:
        return [functools.partial(on_all[claim.id, scope], records)]
    across = claim.id.startswith("T4.")  # compares two sets of pictures
    return [
        functools.partial(PREDICATES[claim.id, scope], evidence)
        for evidence in evidence_on(records, scope.split(",")[0], across)
    ]


def write(records: Sequence[Record], results: Path) -> None:
    """Write `claims.md` and `claims.csv` into the folder of results."""
    judgements = judge(records)
    headers = ("id", "where", "claim", "scope", "verdict", "fidelity", "rests on", "note")
    rows = [
        (j.claim.id, j.claim.where, j.claim.statement, j.scope, j.verdict, j.fidelity or "",
         ", ".join(j.cells), j.note)
        for j in judgements
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=list(headers))
    atomic_write(results / "claims.csv", table.to_csv(index=False))
    counts = Counter(j.verdict for j in judgements)
    summary = ", ".join(f"{counts[v]} {v}" for v in ("holds", "fails", "undecided", "not_run"))
    text = (
        "# Claims\n\n"
        f"{len(claims())} claims in {len(judgements)} scopes: {summary}. Made from the records by "
        "`pytest paper_tables`.\n\n"
        f"Intervals are 95 % (Student's t over the batches). *Near 1*: the interval lies in "
        f"[{MARGIN[0]}, {MARGIN[1]}]. *Almost only positive*: at most {ALMOST_NONE} of the "
        f"magnitude sum |lambda| w is negative; *a large negative part*: at least {LARGE_SHARE} of "
        "it. *Falls*: the interval of the difference excludes 0; *fails to fall*: it lies below a "
        f"fall of {NO_FALL:.0%}. *Asymmetric* spectra: r_e above {LARGE_RE:g}; planes: the "
        "interval of the share of points below the cap without a mirror image below it lies above "
        f"{claims_landscape.ASYMMETRIC}. *fidelity* is that of the least faithful cell a verdict "
        "rests on; a claim is not judged on stand-in data.\n\n"
        + markdown_table(rows, headers, aligned=False)
        + "\n"
    )
    atomic_write(results / "claims.md", text)
