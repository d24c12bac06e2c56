"""Measured values that differ from the printed ones, and by how many standard errors."""

from paper_tables.engine.exhibit import Exhibit
from paper_tables.exhibits.contradictions import tables

__all__ = ["EXHIBIT"]

EXHIBIT = Exhibit(
    name="contradictions", tables=tables.tables, pages=tables.pages, sources=("none",), order=5
)
