"""What the criteria cost and how much they scatter: measurements without a table of the paper."""

from __future__ import annotations

from collections.abc import Sequence

from lla.report.view import Table
from paper_tables.engine.records import Record
from paper_tables.evidence import criteria_table


def tables(records: Sequence[Record]) -> list[Table]:
    """One table a kind of measurement that there are records of."""
    return criteria_table.others(records, "adaptive", "cost", "stability")
