"""The cells of Table 4: pre-trained networks on ImageNet's pictures and on new ones.

The paper does not say in which mode; this takes eval mode, in which networks are used.
"""

from __future__ import annotations

from paper_tables.engine.cells import Cell, Settings
from paper_tables.exhibits.table4.differences import COLUMNS, TABLE
from paper_tables.inputs import networks
from paper_tables.measure import photographs
from paper_tables.measure.photographs import Case
from paper_tables.paper import paper_rows

MODE = "eval"


def cells(settings: Settings) -> list[Cell]:
    """All cells of Table 4."""
    nets = [networks.network(settings.profile, row) for row in paper_rows(TABLE)]
    return [
        photographs.spectrum_cell(
            settings, TABLE, column, Case(net, "pretrained", MODE, column), accuracy=True
        )
        for net in nets
        for column in COLUMNS
    ]
