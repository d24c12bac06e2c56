"""Good and bad minima (arXiv:1906.03291)."""

from paper_tables.engine.exhibit import Exhibit
from paper_tables.exhibits.minima import (
    cells,
    claims,
    ellipsoids,
    figures,
    findings,
    minefield,
    scans,
    statements,
    tables,
)

__all__ = ["EXHIBIT"]

EXHIBIT = Exhibit(
    name="minima",
    work=statements.WORK,
    cells=lambda settings: [
        *ellipsoids.cells(settings),
        *cells.cells(settings),
        *scans.cells(settings),
        *minefield.cells(settings),
    ],
    tables=tables.tables,
    figures=figures.figures,
    claims=claims.CLAIMS,
    statements=statements.STATEMENTS,
    findings=findings.findings,
    sources=(cells.TABLE, ellipsoids.TABLE, scans.TABLE, minefield.TABLE),
)
