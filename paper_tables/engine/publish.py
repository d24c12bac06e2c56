"""Everything that is made from published records: tables, claims, figures and the report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lla.files import atomic_write
from lla.report import pages as view
from lla.report.text import csv_table
from paper_tables.engine import answer, claims, content, figures, pages, report, store
from paper_tables.engine.claims import Judgement
from paper_tables.engine.costs import costs
from paper_tables.engine.exhibit import Exhibit, Records


def write_all(exhibits: Sequence[Exhibit], results: Path) -> list[Judgement]:
    """Render every page from the published records: tables, claims, figures and the report.

    Args:
        exhibits: all of them.
        results: the folder of results, with `records/*.jsonl`.

    Returns:
        The judgements on all claims.

    Raises:
        InputError: a file of records is broken.
        ChecksumError: an artifact is not the one that its record names.
    """
    records = store.published(results)
    for exhibit in exhibits:
        write_exhibit(exhibit, records, results)
    judgements = claims.judge(records, exhibits)
    claims.write(judgements, exhibits, results)
    answer.write(judgements, results)
    page = view.markdown([costs(judgements)], "")
    atomic_write(results / "costs.md", page)
    drawings = [drawing for exhibit in exhibits for drawing in exhibit.figures(records)]
    figures.write(drawings, results)
    gather = partial(content.gather, exhibits, records, judgements, drawings, results)
    report.write(gather, records, drawings, results)  # last: it holds the figures
    return judgements


def is_current(results: Path) -> bool:
    """Whether the report, which is written last, is newer than all records."""
    page = results / report.PAGE
    times = [path.stat().st_mtime_ns for path in (results / "records").glob("*.jsonl")]
    return page.exists() and page.stat().st_mtime_ns > max(times, default=0)


def write_exhibit(exhibit: Exhibit, records: Records, results: Path) -> None:
    """Write the pages of one exhibit: `<name>.md`, `.tex`, `.csv`, and those that it adds."""
    mine = [record for record in records if record.table in (exhibit.sources or (exhibit.name,))]
    tables = exhibit.tables(records)
    legend = pages.legend(tables)
    texts = {
        f"{exhibit.name}.md": view.markdown(tables, legend),
        f"{exhibit.name}.tex": view.latex(tables, legend),
        f"{exhibit.name}.csv": csv_table(pages.frame(mine)),
        **exhibit.pages(records),
    }
    for name, text in texts.items():
        atomic_write(results / name, text)


def overview(exhibits: Sequence[Exhibit], records: Records) -> str:
    """Show what these records measured, as text for the terminal."""
    return view.terminal(content.tables(exhibits, records))
