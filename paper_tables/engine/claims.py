"""Verdicts on claims, from records alone. The predicates come from the exhibits."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lla.files import atomic_write
from lla.report.prose import fill
from lla.report.text import csv_table, markdown_table
from paper_tables import paper
from paper_tables.engine.exhibit import (
    ClaimScope,
    Decision,
    Exhibit,
    MissingError,
    Predicate,
    Records,
    Verdict,
)
from paper_tables.engine.fidelity import least_faithful
from paper_tables.engine.records import Record, Source
from paper_tables.paper import Claim

TEMPLATE = Path(__file__).with_name("claims.md.j2")
VERDICTS: tuple[Verdict, ...] = ("holds", "fails", "undecided", "not_run")


@dataclass(frozen=True)
class Judgement:
    """The verdict on one claim in one scope."""

    claim: Claim
    scope: str
    verdict: Verdict
    fidelity: str | None = None  # of the least faithful cell it rests on
    cells: tuple[str, ...] = ()  # "table2 lenet random/eval"
    note: str = ""
    records: tuple[Record, ...] = ()  # the evidence
    work: str = paper.WORK  # that makes the claim

    @property
    def slug(self) -> str:
        """A name for the claim in its scope, fit for a command line: "T1.bn:random-init"."""
        return slug(self.claim.id, self.scope)


def slug(claim: str, scope: str) -> str:
    """The name of a claim in a scope.

    >>> slug("T1.bn", "random init")
    'T1.bn:random-init'
    """
    return f"{claim}:{re.sub(r'[^0-9a-z]+', '-', scope.lower()).strip('-')}"


def stated(exhibits: Sequence[Exhibit]) -> list[tuple[str, Claim]]:
    """Every claim with the work that makes it: those of the paper, then those of exhibits."""
    others = [(exhibit.work, claim) for exhibit in exhibits for claim in exhibit.statements]
    return [*((paper.WORK, claim) for claim in paper.claims()), *others]


def judge(records: Records, exhibits: Sequence[Exhibit]) -> list[Judgement]:
    """Judge every claim in every scope.

    Args:
        records: all published records.
        exhibits: they give the predicates, and claims of their own.

    Returns:
        One judgement for each claim and scope: the claims of `paper` in its order, then those that
        exhibits state. What cannot be judged is `not_run`, with the reason as its note.
    """
    predicates = {
        scope: predicate for exhibit in exhibits for scope, predicate in exhibit.claims.items()
    }
    found = []
    for work, claim in stated(exhibits):
        for scope, missing in claim.scopes.items():
            if missing is None:
                one = judged(claim, scope, predicates.get(ClaimScope(claim.id, scope)), records)
            else:
                one = Judgement(claim, scope, "not_run", note=missing)
            found.append(dataclasses.replace(one, work=work))
    return found


def judged(claim: Claim, scope: str, predicate: Predicate | None, records: Records) -> Judgement:
    """The verdict on one claim in one scope that can be judged.

    Args:
        claim: the claim.
        scope: one of its scopes.
        predicate: decides it; None if no exhibit does.
        records: all that there are.
    """
    if predicate is None:
        return Judgement(claim, scope, "not_run", note="no exhibit judges it")
    try:
        decision = predicate(records)
    except MissingError as error:
        return Judgement(claim, scope, "not_run", note=str(error))
    used = decision.records
    fidelity = least_faithful(record.fidelity for record in used) if used else None
    verdict, note = decision.verdict, decision.note
    if fidelity == "substitute":
        verdict = "not_run"
        note = f"{_stand_ins(used, records)}; it would be {decision.verdict!r}: {note}"
    return Judgement(claim, scope, verdict, fidelity, _cells(decision), note, tuple(used))


def _stand_ins(used: Records, records: Records) -> str:
    """Which data or weights are not the paper's, in words.

    A record does not say which of its two is the stand-in. Weights that were trained here are none,
    only the data may be. And what stands in the same table without being one is none either.
    """
    named = [source for r in used if r.fidelity == "substitute" for source in _inputs(r)]
    tables = {r.table for r in used}
    real = {
        source
        for r in records
        if r.table in tables and r.fidelity not in ("substitute", None)
        for source in _inputs(r)
    }
    names = list(dict.fromkeys(s.name for s in named if s not in real))
    names = names or list(dict.fromkeys(s.name for s in named))
    if len(names) < 2:
        return ": ".join(["computed with a stand-in", *names])
    return f"computed with a stand-in, which is one of these: {'; '.join(names)}"


def _inputs(record: Record) -> list[Source]:
    """The data of a record, and its weights unless they were trained here."""
    weights = None if record.config.get("training") else record.weights
    return [source for source in (record.data, weights) if source is not None]


def _cells(decision: Decision) -> tuple[str, ...]:
    """The cells that a decision rests on, each once."""
    parts = ("table", "row") if decision.many else ("table", "row", "column")
    names = (" ".join(getattr(r, part) for part in parts) for r in decision.records)
    return tuple(dict.fromkeys(names))


def counts(judgements: Sequence[Judgement]) -> str:
    """The number of claims, and of verdicts of each kind, in words."""
    found = Counter(judgement.verdict for judgement in judgements)
    verdicts = ", ".join(f"{found[verdict]} {verdict}" for verdict in VERDICTS)
    claims = len({judgement.claim.id for judgement in judgements})
    return f"{claims} claims in {len(judgements)} scopes: {verdicts}"


def write(judgements: Sequence[Judgement], exhibits: Sequence[Exhibit], results: Path) -> None:
    """Write `claims.md` and `claims.csv` into the folder of results."""
    headers = ("id", "work", "where", "claim", "scope", "verdict", "fidelity", "rests on", "note")
    rows = [
        (j.claim.id, j.work, j.claim.where, j.claim.statement, j.scope, j.verdict,
         j.fidelity or "", ", ".join(j.cells), j.note)
        for j in judgements
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=list(headers))
    atomic_write(results / "claims.csv", csv_table(table))
    page = fill(
        TEMPLATE,
        works=len({judgement.work for judgement in judgements}),
        counts=counts(judgements),
        legends=[exhibit.claims_legend for exhibit in exhibits if exhibit.claims_legend],
        table=markdown_table(rows, headers, aligned=False),
    )
    atomic_write(results / "claims.md", page)
