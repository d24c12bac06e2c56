"""A study: what could make r_e of ResNet18 in train mode the paper's 451."""

from paper_tables.engine.exhibit import Exhibit
from paper_tables.exhibits.resnet_study import cells, findings, tables

__all__ = ["EXHIBIT"]

EXHIBIT = Exhibit(
    name="resnet_study",
    cells=cells.cells,
    tables=tables.tables,
    findings=findings.findings,
    order=8,
)
