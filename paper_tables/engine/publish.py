"""Everything that is made from published records: tables, claims, figures and the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paper_tables.engine import claims, content, figures, pages, report, store
from paper_tables.engine.exhibit import Exhibit
from paper_tables.engine.records import Record
from paper_tables.exhibits.generalization import prediction_page
from paper_tables.exhibits.normalization import page as normalization_page

__all__ = ["overview", "write_all"]

PAGES = ("table1", "table2", "table3", "table4")  # exhibits whose page is their tables


def write_all(exhibits: Sequence[Exhibit], results: Path) -> None:
    """Render every page from the published records: tables, claims, figures and the report.

    Args:
        exhibits: all of them.
        results: the folder of results, with `records/*.jsonl`.

    Raises:
        InputError: a file of records is broken.
        ChecksumError: an artifact is not the one that its record names.
    """
    records = store.published(results)
    for exhibit in exhibits:
        if exhibit.name in PAGES:
            mine = [record for record in records if record.table == exhibit.name]
            pages.write_pages(exhibit.name, exhibit.tables(mine), mine, results)
    for name in ("generalization", "shift_planes"):
        found = [record for record in records if record.table == name]
        if found:
            pages.write_csv(name, found, results)
    normalization_page.write(records, results)
    prediction_page.write(records, results)
    judgements = claims.judge(records, exhibits)
    claims.write(judgements, exhibits, results)
    drawings = [drawing for exhibit in exhibits for drawing in exhibit.figures(records)]
    figures.write(drawings, results)
    report.write(exhibits, records, judgements, drawings, results)  # last: it holds the figures


def overview(exhibits: Sequence[Exhibit], records: Sequence[Record]) -> str:
    """What these records measured, for the terminal."""
    return pages.overview(content.tables(exhibits, records))
