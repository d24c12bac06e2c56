"""Table 3: sizes and splits of the data sets."""

from paper_tables.engine.exhibit import Exhibit
from paper_tables.exhibits.table3 import cells, claims, tables

__all__ = ["EXHIBIT"]

EXHIBIT = Exhibit(
    name="table3",
    cells=cells.cells,
    tables=tables.tables,
    claims=claims.CLAIMS,
    order=3,
)
