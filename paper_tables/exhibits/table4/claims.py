"""Claims on new images against ImageNet's (section 4.4)."""

from __future__ import annotations

from paper_tables import paper
from paper_tables.engine.exhibit import ClaimScope, Decision, Predicate
from paper_tables.evidence.criteria import (
    CRITERIA,
    REVERSED,
    Evidence,
    Rule,
    every_cell,
    falls,
    in_words,
    on_first,
)
from paper_tables.evidence.intervals import combined
from paper_tables.exhibits.table4.differences import COLUMNS


def _kh05_against_accuracy(rises: bool) -> Rule:
    """K_H05 on new images against ImageNet's, where the accuracy falls (or, for ViT, does not)."""

    def predicate(evidence: Evidence) -> Decision:
        first, second = (evidence.find(column, "kh05") for column in COLUMNS)
        seen = [evidence.find(column, "accuracy") for column in COLUMNS]
        ones = [evidence.find(column, "kh1") for column in COLUMNS]
        rise = falls(second, first)
        less = falls(*seen)
        shown = in_words([first, second, *ones, *seen])
        note = f"{shown}; K_H05 rises: {rise}, accuracy falls: {less}"
        if not rises:
            return Decision(REVERSED[rise], (first, second, *seen), note)
        return Decision(combined([rise, less]), (first, second, *seen), note)

    return predicate


def _re_rises(evidence: Evidence) -> Decision:
    first, second = (evidence.find(column, "re") for column in COLUMNS)
    return Decision(falls(second, first), (first, second), in_words([first, second]))


CLAIMS: dict[ClaimScope, Predicate] = {
    ClaimScope(claim, row): on_first(row, rule, across_data=True)
    for row in paper.paper_rows("table4")
    for claim, rule in {
        "T4.cell": every_cell(COLUMNS, ("accuracy", *CRITERIA)),
        "T4.kh05": _kh05_against_accuracy(row != "vit"),
        "T4.re": _re_rises,
    }.items()
}
