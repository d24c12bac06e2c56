"""A study: a normalization under which no plane explodes."""

from paper_tables.engine.exhibit import Exhibit
from paper_tables.exhibits.normalization import cells, page, tables

__all__ = ["EXHIBIT"]

EXHIBIT = Exhibit(
    name="normalization",
    cells=lambda settings: cells.cells(settings) if settings.profile.study else [],
    tables=tables.tables,
    pages=page.pages,
    order=7,
)
