"""The training runs of section 4, and what is measured along them."""

import pytest

from paper_tables.engine.cells import Cell
from paper_tables.engine.suite import Suite
from paper_tables.exhibits.generalization.cells import cells  # noqa: F401  the cells that `cell` runs through


def test_generalization_runs(cell: Cell, suite: Suite) -> None:
    """A cell of a training run is computed and agrees with its published record."""
    suite.run(cell)
    if cell.compute is None:
        pytest.skip(str(cell.reason))
