"""A study: a normalization under which no plane explodes."""

from paper_tables.engine.exhibit import Exhibit
from paper_tables.exhibits.normalization import cells, tables

__all__ = ["EXHIBIT"]

EXHIBIT = Exhibit(
    name="normalization",
    cells=lambda settings: cells.cells(settings) if settings.profile.study else [],
    tables=tables.tables,
    order=7,
)
