"""The claim on the sizes of the data sets (D.sizes), judged from records of Table 3."""

from __future__ import annotations

from collections.abc import Sequence

from paper_tables.engine.exhibit import ClaimScope, Decision, Predicate, Records, Verdict
from paper_tables.engine.records import Record
from paper_tables.evidence.criteria import missing
from paper_tables.evidence.selection import grouped
from paper_tables.exhibits.table3.sizes import TABLE, shown
from paper_tables.paper import paper_columns, paper_rows
from paper_tables.paper.names import display

REMARK = (
    "CINIC-10's three splits hold 90000 images each, so that training and test images do not add "
    "up to its size; CINIC-10-i leaves out the validation split"
)


def sizes(records: Records) -> Decision:
    """Whether every data set has the printed sizes; only complete splits are counted.

    Args:
        records: all published records.

    Returns:
        `holds` if all are counted and equal, `fails` if one is counted and differs, else
        `undecided`; the note says which are equal and why others are not counted.

    Raises:
        MissingError: nothing was counted.
    """
    columns = [column for column in paper_columns(TABLE) if column != "image"]
    used: list[Record] = []
    equal, differing, uncounted = [], [], []
    for row in paper_rows(TABLE):
        cells = {column: shown(records, row, column) for column in columns}
        used += [record for cell in cells.values() for record in cell.records]
        agreeing = [c for c, cell in cells.items() if cell.verdict == "reproduced"]
        equal += [_place(row, agreeing, columns)] if agreeing else []
        differing += [
            f"{display(row)} {column} {cell.text}, not {cell.paper}"
            for column, cell in cells.items()
            if cell.verdict == "differs"
        ]
        reasons = [(cell.reason.partition(":")[0], c) for c, cell in cells.items() if cell.reason]
        for reason, same in grouped(reasons, lambda pair: pair[0]).items():
            uncounted.append(f"{_place(row, [c for _, c in same], columns)}: {reason}")
    parts = (
        f"different: {', '.join(differing)}" if differing else "",
        f"equal: {', '.join(equal) or 'none'}",
        f"not counted: {'; '.join(uncounted)}" if uncounted else "",
        REMARK,
    )
    note = "; ".join(filter(None, parts))
    if not used:
        raise missing(note)
    verdict: Verdict = "fails" if differing else "undecided" if uncounted else "holds"
    return Decision(verdict, tuple(used), note)


def _place(row: str, columns: Sequence[str], every: Sequence[str]) -> str:
    """A data set, with the names of the columns unless these are all.

    >>> _place("svhn", ["train"], ["size", "train"])
    'SVHN train'
    """
    return display(row) if len(columns) == len(every) else f"{display(row)} {' and '.join(columns)}"


CLAIMS: dict[ClaimScope, Predicate] = {ClaimScope("D.sizes", "all"): sizes}
