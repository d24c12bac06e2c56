"""The study of r_e of ResNet18 in train mode; only with --study."""

from paper_tables.cells import Cell
from paper_tables.resnet_study import cells  # noqa: F401  the cells that `cell` runs through
from paper_tables.suite import Suite


def test_resnet_study(cell: Cell, suite: Suite) -> None:
    """A setting of the study is computed and agrees with its published record."""
    suite.run(cell)
