"""Claims on new images against ImageNet's (section 4.4)."""

from __future__ import annotations

from paper_tables import paper
from paper_tables.engine.exhibit import ClaimScope, Predicate
from paper_tables.evidence.criteria import CRITERIA, every_cell, on_first
from paper_tables.evidence.rules import Find, kh05_against_accuracy, re_rises
from paper_tables.exhibits.table4.differences import COLUMNS


def _in(column: str) -> Find:
    return lambda evidence, metric: evidence.find(column, metric)


FINDS = _in(COLUMNS[0]), _in(COLUMNS[1])
CLAIMS: dict[ClaimScope, Predicate] = {
    ClaimScope(claim, row): on_first(row, rule, across_data=True)
    for row in paper.paper_rows("table4")
    for claim, rule in {
        "T4.cell": every_cell(COLUMNS, ("accuracy", *CRITERIA)),
        "T4.kh05": kh05_against_accuracy(*FINDS, rises=row != "vit"),  # the claim's exception
        "T4.re": re_rises(*FINDS),
    }.items()
}
