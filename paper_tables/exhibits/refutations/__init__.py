"""Faults of public code of this field, imitated: what they give beside the right number."""

from paper_tables.engine.exhibit import Exhibit
from paper_tables.exhibits.refutations import cells, tables

__all__ = ["EXHIBIT"]

EXHIBIT = Exhibit(name="refutations", cells=cells.cells, tables=tables.tables, order=9)
