"""Layer-wise Hessians and their Kronecker approximation (arXiv:2010.04261)."""

from paper_tables.engine.exhibit import Exhibit
from paper_tables.exhibits.layerwise import blocks, known, mlps

__all__ = ["EXHIBIT"]

EXHIBIT = Exhibit(
    name="layerwise",
    work="arXiv:2010.04261",
    cells=lambda settings: [
        *mlps.cells(settings),
        *known.cells(settings),
        *blocks.cells(settings),
    ],
    sources=(mlps.TABLE, blocks.TABLE),
)
