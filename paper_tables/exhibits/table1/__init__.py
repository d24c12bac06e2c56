"""Table 1: which loss planes explode, by network, weights, mode, axes and normalization."""

from paper_tables.engine.exhibit import Exhibit
from paper_tables.exhibits.table1 import cells, claims, figures, panel, plots, tables

__all__ = ["EXHIBIT"]

EXHIBIT = Exhibit(
    name="table1",
    cells=lambda settings: [
        *cells.cells(settings),
        *cells.fine_cells(settings),
        *panel.cells(settings),
    ],
    tables=tables.tables,
    figures=figures.figures,
    plots=plots.plots,
    claims=claims.CLAIMS,
    claims_legend=claims.LEGEND,
    order=1,
)
