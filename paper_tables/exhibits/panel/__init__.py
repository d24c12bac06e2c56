"""A panel: claims about every CNN, tested on networks that the paper's author did not choose."""

from paper_tables.engine.exhibit import Exhibit
from paper_tables.exhibits.panel import cells, claims, tables

__all__ = ["EXHIBIT"]

EXHIBIT = Exhibit(
    name="panel",
    cells=cells.cells,
    tables=tables.tables,
    claims=claims.CLAIMS,
    claims_legend=tables.LEGEND,
    order=5,
)
