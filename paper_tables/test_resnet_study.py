"""The study of r_e of ResNet18 in train mode; only with --study."""

from paper_tables.engine.cells import Cell
from paper_tables.engine.suite import Suite
from paper_tables.exhibits.resnet_study.cells import cells  # noqa: F401  the cells that `cell` runs through


def test_resnet_study(cell: Cell, suite: Suite) -> None:
    """A setting of the study is computed and agrees with its published record."""
    suite.run(cell)
