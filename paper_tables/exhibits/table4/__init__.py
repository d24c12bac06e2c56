"""Table 4: trained networks on ImageNet's pictures and on new ones."""

from paper_tables.engine.exhibit import Exhibit
from paper_tables.exhibits.table4 import cells, claims, findings, tables

__all__ = ["EXHIBIT"]

EXHIBIT = Exhibit(
    name="table4",
    cells=cells.cells,
    tables=tables.tables,
    claims=claims.CLAIMS,
    findings=findings.findings,
    order=4,
)
