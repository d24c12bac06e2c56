"""Section 4: trainings followed on two data sets, and the loss around their ends."""

from paper_tables.engine.exhibit import Exhibit
from paper_tables.exhibits.generalization import (
    cells,
    claims,
    figures,
    findings,
    loss_figures,
    prediction_page,
    shift_figures,
    shift_planes,
    tables,
)

__all__ = ["EXHIBIT"]

EXHIBIT = Exhibit(
    name="generalization",
    cells=lambda settings: [*cells.cells(settings), *shift_planes.cells(settings)],
    tables=tables.tables,
    figures=lambda records: [
        *figures.figures(records),
        *loss_figures.figures(records),
        *shift_figures.figures(records),
        *prediction_page.figures(records),
    ],
    pages=prediction_page.pages,
    claims=claims.CLAIMS,
    findings=findings.findings,
    sources=("generalization", "shift_planes"),
    order=6,
)
