"""The report: `report.html`, one page that needs no network, and `README.md` beside it.

Both are made from records and the files that these name. They are written anew only when
something that they show has changed.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import re
from collections.abc import Sequence
from pathlib import Path

import lla.report
from lla.report import html
from lla.report.contents import Section
from paper_tables.engine import results_page as markdown
from paper_tables.engine.content import gather
from paper_tables.engine.environment_section import README
from paper_tables.engine.records import Record, atomic_write

__all__ = ["write"]

PAGE = "report.html"
MARKDOWN = "README.md"
CODE = (".py", ".j2", ".css", ".js", ".json")
HEAD = 1000  # bytes of the page that hold what it was written for


def write(records: Sequence[Record], results: Path, findings: Sequence[Section] = ()) -> None:
    """Write the report into the folder of results.

    Args:
        records: all published records.
        results: the folder of results; figures are taken from `figures/` in it, so they are drawn
            before.
        findings: sections of prose to stand behind the claims, each a title and a text: a plain
            one is escaped, `markupsafe.Markup` is not.

    Raises:
        ChecksumError: an artifact is not the one that its record names.
    """
    key = _key(records, results, findings)
    page, text = results / PAGE, results / MARKDOWN
    if text.exists() and _written_for(page) == key:
        return
    report = gather(records, results, findings)
    atomic_write(text, markdown.render(report))
    atomic_write(page, html.render(report, key))


def _key(records: Sequence[Record], results: Path, findings: Sequence[Section]) -> str:
    """A hash of everything that the report shows, and of the code that writes it."""
    digest = hashlib.sha256(_code().encode())
    for text in (*map(repr, records), *(part for section in findings for part in section)):
        digest.update(text.encode() + b"\0")
    for path in sorted((results / "figures").glob("*.png")):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _written_for(page: Path) -> str | None:
    """The key that a page was written for."""
    if not page.exists():
        return None
    with page.open("rb") as stream:
        found = re.search(rb'name="written-for" content="(\w+)"', stream.read(HEAD))
    return found.group(1).decode() if found else None


@functools.cache
def _code() -> str:
    """A hash of this package and the view, their templates and data, and the version of plotly."""
    digest = hashlib.sha256(importlib.metadata.version("plotly").encode())
    for root in (Path(__file__).parent.parent, Path(str(lla.report.__file__)).parent):
        for path in sorted(root.rglob("*")):
            if path.is_file() and path.suffix in CODE and not path.name.startswith("test_"):
                name = path.relative_to(root).as_posix()
                digest.update(name.encode() + b"\0" + path.read_bytes())
    digest.update(README.read_bytes())
    return digest.hexdigest()
