"""Table 2: criteria at random initialisation and pre-trained; and the spectra during training."""

from __future__ import annotations

from collections.abc import Sequence

from lla.report.view import Table
from paper_tables.engine.records import Record
from paper_tables.evidence import criteria_table
from paper_tables.evidence.legends import legend

LEGEND = legend(__file__, "table")


def tables(records: Sequence[Record]) -> list[Table]:
    """Table 2, and what else was measured for the figures of spectra."""
    return [
        criteria_table.table(records, "table2", LEGEND),
        *criteria_table.other(records, "hesd", "Figure 7: criteria of LeNet during training"),
    ]
