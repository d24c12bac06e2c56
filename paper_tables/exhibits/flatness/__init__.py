"""Exact flatness of convolutional networks (arXiv:2603.09016)."""

from paper_tables.engine.exhibit import Exhibit
from paper_tables.exhibits.flatness import (
    claims,
    costs,
    family,
    figures,
    findings,
    identities,
    networks,
    statements,
    tables,
)

__all__ = ["EXHIBIT"]

EXHIBIT = Exhibit(
    name="flatness",
    work=statements.WORK,
    cells=lambda settings: [
        *identities.cells(settings),
        *networks.cells(settings),
        *costs.cells(settings),
        *family.cells(settings),
    ],
    tables=tables.tables,
    figures=figures.figures,
    claims=claims.CLAIMS,
    statements=statements.STATEMENTS,
    findings=findings.findings,
    sources=(identities.TABLE, family.TABLE, networks.TABLE, costs.TABLE),
)
