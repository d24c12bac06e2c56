"""A study: what could make the criteria of trained LeNet the paper's."""

from paper_tables.engine.exhibit import Exhibit
from paper_tables.exhibits.lenet_study import cells, findings, tables

__all__ = ["EXHIBIT"]

EXHIBIT = Exhibit(
    name="lenet_study",
    cells=cells.cells,
    tables=tables.tables,
    findings=findings.findings,
    order=8,
)
