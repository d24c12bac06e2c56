"""Table 2: criteria at random initialisation and pre-trained; and the spectra during training."""

from __future__ import annotations

from collections.abc import Sequence

from lla.report.view import Table
from paper_tables.engine.records import Record
from paper_tables.evidence import criteria_table

LEGEND = (
    "The paper does not state the random initialisation, so PyTorch's default and a uniform one "
    "are both shown (for LeNet they are the same law, so two draws of it); networks are trained "
    "from the default, and one that was trained for fewer epochs than the paper's 1000 is reduced. "
    "Accuracy: of the trained network on the batches of the spectra, mean of the two modes."
)


def tables(records: Sequence[Record]) -> list[Table]:
    """Table 2, and what else was measured for the figures of spectra."""
    return [
        criteria_table.table(records, "table2", LEGEND),
        *criteria_table.others(records, "hesd"),
    ]
