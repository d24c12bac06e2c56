"""Level sets of the training loss (arXiv:2011.04189)."""

from paper_tables.engine.exhibit import Exhibit
from paper_tables.exhibits.level_sets import cells, claims, figures, findings, statements, tables

__all__ = ["EXHIBIT"]

EXHIBIT = Exhibit(
    name="level_sets",
    work=statements.WORK,
    cells=cells.cells,
    tables=tables.tables,
    figures=figures.figures,
    claims=claims.CLAIMS,
    statements=statements.STATEMENTS,
    findings=findings.findings,
    sources=(cells.TABLE, cells.PATHS),
)
