"""Table 2: criteria at random initialisation and after training, in train and eval mode."""

import pytest

from paper_tables.engine.cells import Cell
from paper_tables.engine.suite import Suite
from paper_tables.exhibits.table2.cells import cells  # noqa: F401  the cells that `cell` runs through


def test_table2_criteria(cell: Cell, suite: Suite) -> None:
    """A cell of Table 2 is computed, is consistent, and agrees with its published record."""
    suite.run(cell)
    if cell.compute is None:
        pytest.skip(str(cell.reason))
