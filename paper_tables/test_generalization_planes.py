"""Planes of the loss around trained networks, on their own and on other data (A.1 and A.2)."""

import pytest

from paper_tables.engine.cells import Cell
from paper_tables.engine.suite import Suite
from paper_tables.exhibits.generalization.shift_planes import cells  # noqa: F401  the cells that `cell` runs through


def test_generalization_planes(cell: Cell, suite: Suite) -> None:
    """The planes of a pair are computed and agree with their published records."""
    suite.run(cell)
    if cell.compute is None:
        pytest.skip(str(cell.reason))
