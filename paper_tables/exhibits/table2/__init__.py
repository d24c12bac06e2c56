"""Table 2: criteria before and after training, with the spectra of Figures 5 to 9."""

from paper_tables.engine.exhibit import Exhibit
from paper_tables.exhibits.table2 import cells, claims, figures, findings, plots, tables

__all__ = ["EXHIBIT"]

EXHIBIT = Exhibit(
    name="table2",
    cells=lambda settings: [*cells.cells(settings), *cells.figure_cells(settings)],
    tables=tables.tables,
    figures=figures.figures,
    plots=plots.plots,
    claims=claims.CLAIMS,
    claims_legend=claims.LEGEND,
    findings=findings.findings,
    sources=("table2", "hesd"),
    order=2,
)
