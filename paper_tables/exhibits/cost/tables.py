"""How much criteria scatter; the pages of the benchmarks show what they cost."""

from __future__ import annotations

from lla.report.view import Table
from paper_tables.engine.exhibit import Records
from paper_tables.evidence import criteria_table


def tables(records: Records) -> list[Table]:
    """The scatter over probes and batches, where it was measured."""
    return criteria_table.other(
        records, "stability", "Section 3.4: how criteria scatter over probes and batches"
    )
