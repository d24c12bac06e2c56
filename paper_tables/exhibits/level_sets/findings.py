"""What was found on level sets, in a paragraph with numbers from records."""

from __future__ import annotations

from lla.report.text import measured
from paper_tables.engine.exhibit import Finding, Records
from paper_tables.engine.fidelity import rank
from paper_tables.engine.records import Record
from paper_tables.evidence.legends import legend
from paper_tables.evidence.selection import by_cell
from paper_tables.exhibits.level_sets.cells import TABLE
from paper_tables.exhibits.level_sets.walks import FREE, JACOBIAN, L2, LONGER
from paper_tables.paper.names import display


def findings(records: Records) -> list[Finding]:
    """What a walk does to the test loss, on the most faithful family with the most networks."""
    rows: dict[str, dict[str, dict[str, Record]]] = {}
    for (row, column, _), cell in by_cell(records, TABLE).items():
        rows.setdefault(row, {})[column] = cell
    complete = [row for row, found in rows.items() if {L2, JACOBIAN, FREE} <= set(found)]
    if not complete:
        return []

    def order(row: str) -> tuple[int, int]:
        record = rows[row][L2]["test_change"]
        return rank(record.fidelity), -(record.n or 0)

    row = min(complete, key=order)
    mine = rows[row]

    def said(walk: str, metric: str) -> str:
        return measured(mine[walk][metric].value, mine[walk][metric].stderr)

    record = mine[L2]["test_change"]
    text = legend(
        __file__, "finding", name=display(row), fidelity=record.fidelity, n=record.n,
        l2=said(L2, "test_change"), jacobian=said(JACOBIAN, "test_change"),
        lowest=said(JACOBIAN, "lowest_change"), free=said(FREE, "test_change"),
    )  # fmt: skip
    if LONGER in mine:
        text += " " + legend(
            __file__, "longer", change=said(LONGER, "test_change"),
            left=said(LONGER, "jacobian_change"), l2=said(LONGER, "l2_change"),
        )  # fmt: skip
    return [Finding("Do networks of equal training loss differ on test data?", text)]
