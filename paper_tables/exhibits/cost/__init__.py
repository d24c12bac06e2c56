"""Section 3.4: what criteria cost, and how they scatter over probes and batches."""

from paper_tables.engine.exhibit import Exhibit
from paper_tables.exhibits.cost import claims, stability, tables

__all__ = ["EXHIBIT"]

EXHIBIT = Exhibit(
    name="cost",
    cells=stability.cells,
    tables=tables.tables,
    claims=claims.CLAIMS,
    sources=("stability",),
    order=5,
)
