"""How much spectra differ from probe to probe (section 3.4)."""

import pytest

from paper_tables.engine.cells import Cell
from paper_tables.engine.suite import Suite
from paper_tables.exhibits.cost.stability import cells  # noqa: F401  the cells that `cell` runs through


def test_stability_spread(cell: Cell, suite: Suite) -> None:
    """A spread is computed and agrees with its published record."""
    suite.run(cell)
    if cell.compute is None:
        pytest.skip(str(cell.reason))
