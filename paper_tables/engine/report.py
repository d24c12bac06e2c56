"""The report: `report.html`, one page that needs no network, and `README.md` beside it.

Both are made from records and the files that these name. They are written anew only when
something that they show has changed.
"""

from __future__ import annotations

import functools
import importlib.metadata
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import paper_tables
from lla.files import atomic_write, sha256_of_bytes, sha256_of_file
from lla.report import html
from lla.report.contents import Report
from paper_tables.engine import results_page as markdown
from paper_tables.engine.environment_section import README
from paper_tables.engine.exhibit import Drawing, Records
from paper_tables.engine.figures import path_of

PAGE = "report.html"
MARKDOWN = "README.md"
HEAD = 1000  # bytes at the start of the page, which contain its key


def write(
    gather: Callable[[], Report], records: Records, drawings: Sequence[Drawing], results: Path
) -> None:
    """Write the report into the folder of results.

    Args:
        gather: collects the content; called only if something changed, because it takes seconds.
        records: all published records.
        drawings: the figures; their files exist already.
        results: the folder of results.
    """
    key = _key(records, drawings, results)
    page, text = results / PAGE, results / MARKDOWN
    if text.exists() and _written_for(page) == key:
        return
    report = gather()
    atomic_write(text, markdown.render(report))
    atomic_write(page, html.render(report, key))


def _key(records: Records, drawings: Sequence[Drawing], results: Path) -> str:
    """A digest of everything that the report shows, and of the code that writes it."""
    pictures = [sha256_of_file(path_of(drawing, results)) for drawing in drawings]
    names = [drawing.name for drawing in drawings]
    return sha256_of_bytes("\0".join([_code(), *map(repr, records), *names, *pictures]))


def _written_for(page: Path) -> str | None:
    """The key that a page was written for."""
    if not page.exists():
        return None
    with page.open("rb") as stream:
        found = re.search(rb'name="written-for" content="(\w+)"', stream.read(HEAD))
    return found.group(1).decode() if found else None


@functools.cache
def _code() -> str:
    """A digest of the suites, the view with its templates, the README, and plotly's version."""
    folders = (Path(paper_tables.__file__).parent, Path(html.__file__).parent)
    files = [
        path
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".pyc" and not path.name.startswith("test_")
    ]
    digests = [sha256_of_file(path) for path in (*files, README)]
    names = [path.name for path in files]
    return sha256_of_bytes("\0".join([importlib.metadata.version("plotly"), *names, *digests]))
