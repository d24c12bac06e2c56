"""Everything that is made from published records: tables, claims, figures and the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paper_tables.engine import claims, content, findings, pages, report, store
from paper_tables.engine.records import Record
from paper_tables.exhibits.generalization import cells as generalization
from paper_tables.exhibits.generalization import figures as figures_generalization
from paper_tables.exhibits.generalization import prediction_page, shift_planes
from paper_tables.exhibits.generalization import shift_figures as figures_shift
from paper_tables.exhibits.normalization import page as normalization_page
from paper_tables.exhibits.table1 import figures as figures_landscape
from paper_tables.exhibits.table1 import tables as table1
from paper_tables.exhibits.table2 import figures
from paper_tables.exhibits.table2 import tables as table2
from paper_tables.exhibits.table3 import tables as table3
from paper_tables.exhibits.table4 import tables as table4

__all__ = ["overview", "write_all"]

# Page -> what makes its tables.
PAGES = {
    "table1": table1.tables,
    "table2": table2.tables,
    "table3": table3.tables,
    "table4": table4.tables,
}


def write_all(results: Path) -> None:
    """Render tables, claims, figures and the report from the published records.

    Args:
        results: the folder of results, with `records/*.jsonl`.

    Raises:
        InputError: a file of records is broken.
    """
    records = store.published(results)
    for name, tables in PAGES.items():
        mine = [record for record in records if record.table == name]
        pages.write_pages(name, tables(mine), mine, results)
    for name in (generalization.TABLE, shift_planes.TABLE):
        found = [record for record in records if record.table == name]
        if found:
            pages.write_csv(name, found, results)
    normalization_page.write(records, results)
    claims.write(records, results)
    figures.write(records, results)
    figures_landscape.write(records, results)
    figures_generalization.write(records, results)
    figures_shift.write(records, results)
    prediction_page.write(records, results)
    paragraphs = [(found.title, found.text) for found in findings.findings(records)]
    report.write(records, results, paragraphs)  # last: it holds the figures


def overview(records: Sequence[Record]) -> str:
    """What these records measured, for the terminal."""
    return pages.overview(content.tables(records))
