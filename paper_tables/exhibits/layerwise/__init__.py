"""Layer-wise Hessians and their Kronecker approximation (arXiv:2010.04261)."""

from paper_tables.engine.exhibit import Exhibit
from paper_tables.exhibits.layerwise import (
    blocks,
    claims,
    figures,
    findings,
    fixed,
    mlps,
    statements,
    tables,
)

__all__ = ["EXHIBIT"]

EXHIBIT = Exhibit(
    name="layerwise",
    work=statements.WORK,
    cells=lambda settings: [
        *mlps.cells(settings),
        *fixed.cells(settings),
        *blocks.cells(settings),
    ],
    tables=tables.tables,
    figures=figures.figures,
    claims=claims.CLAIMS,
    statements=statements.STATEMENTS,
    findings=findings.findings,
    sources=(mlps.TABLE, blocks.TABLE),
)
