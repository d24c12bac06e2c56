"""How a benchmark is published: its records, and the page and figures made from them.

Records go to `records/<table>.jsonl` in the folder of results, pages and figures to `benchmarks/`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from benchmarks import view
from lla import files
from lla.plotting import write_png
from lla.report import prose
from lla.report.view import Table
from paper_tables.engine import records, store
from paper_tables.engine.exhibit import Drawing, Exhibit, Records
from paper_tables.engine.records import Record


def publish(
    exhibit: Exhibit,
    new: Sequence[Record],
    results: Path,
    together: Callable[[Record], object] = view.case,
) -> None:
    """Replace the records of the same measurement by new ones, and write the page again.

    A reason for not running never takes the place of a measurement.

    Args:
        exhibit: it shows the records.
        new: records of one measurement.
        results: the folder of results.
        together: what the records of one measurement share: row and configuration by default.
    """

    def merge(old: list[Record]) -> list[Record]:
        mine = [record for record in old if together(record) == together(new[0])]
        if new[0].value is None and any(record.value is not None for record in mine):
            return old
        return [record for record in old if record not in mine] + list(new)

    records.update_records(_file(exhibit, results), merge)
    write(exhibit, results, new)


def write(exhibit: Exhibit, results: Path, new: Records | None = None) -> None:
    """Write the page and the figures of an exhibit.

    Args:
        exhibit: what to write.
        results: the folder of results.
        new: only figures that are made from one of these are drawn; None draws all.
    """
    found = records.read_records(_file(exhibit, results))
    keys = None if new is None else {record.key for record in new}
    write_page(exhibit.name, exhibit.tables(found), exhibit.figures(found), results, keys)


def write_page(
    name: str,
    tables: Sequence[Table],
    figures: Sequence[Drawing],
    results: Path,
    drawn: Collection[tuple[str, ...]] | None = None,
) -> None:
    """Write `<name>.md` from its template in `pages`, and its figures.

    Args:
        name: of the page.
        tables: on it.
        figures: below the tables.
        results: the folder of results.
        drawn: keys of records; only figures that are made from one of these are drawn.
    """
    folder = results / "benchmarks"
    page = prose.fill(view.page(name), tables=tables, figures=figures)
    files.atomic_write(folder / f"{name}.md", page)
    for figure in figures:
        if drawn is None or any(record.key in drawn for record in figure.records):
            write_png(figure.draw(results), folder / f"{figure.name}.png", dpi=100)


def _file(exhibit: Exhibit, results: Path) -> Path:
    (table,) = exhibit.sources or (exhibit.name,)
    return store.records_file(results, table)
