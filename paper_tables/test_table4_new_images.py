"""Table 4: pre-trained networks on ImageNet's pictures and on new ones."""

import pytest

from paper_tables.engine.cells import Cell
from paper_tables.engine.suite import Suite
from paper_tables.exhibits.table4.cells import cells  # noqa: F401  the cells that `cell` runs through


def test_table4_new_images(cell: Cell, suite: Suite) -> None:
    """A cell of Table 4 is computed, is consistent, and agrees with its published record."""
    suite.run(cell)
    if cell.compute is None:
        pytest.skip(str(cell.reason))
