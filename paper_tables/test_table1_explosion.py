"""Table 1: which loss planes explode, by network, weights, mode, axes and normalization."""

import pytest

from paper_tables.engine.cells import Cell
from paper_tables.engine.suite import Suite
from paper_tables.exhibits.table1.cells import cells  # noqa: F401  the cells that `cell` runs through


def test_table1_explosion(cell: Cell, suite: Suite) -> None:
    """A plane of Table 1 is computed, stands on its weights, and agrees with its record."""
    records = suite.run(cell)
    if records[0].value is None:
        pytest.skip(str(records[0].reason))
    (error,) = [record.value for record in records if record.metric == "center_error"]
    assert error == 0, "the loss in the middle is not that of the unmodified weights"
