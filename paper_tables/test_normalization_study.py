"""The study behind the recommended normalization; with --study."""

import pytest

from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.suite import Suite
from paper_tables.exhibits.normalization import cells as normalization


def cells(settings: Settings) -> list[Cell]:
    """Those of the study where it is asked for: it takes longer than all tables together."""
    return normalization.cells(settings) if settings.profile.study else []


def test_normalization_study(cell: Cell, suite: Suite) -> None:
    """A cell of the study is computed and agrees with its published record."""
    records = suite.run(cell)
    if records[0].value is None:
        pytest.skip(str(records[0].reason))
    assert all(record.value is not None for record in records)
