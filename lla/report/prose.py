"""Pages of prose: Jinja templates of Markdown, filled with numbers and tables."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lla.report.pages import grid, summary


def fill(template: Path, **values: object) -> str:
    """Write a page from its template.

    The filters `grid` and `summary` write a `Table` and its counts, see `lla.report.pages`.

    Args:
        template: the file.
        **values: what it names; one that is missing is an error.
    """
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"grid": grid, "summary": summary}
    return environment.get_template(template.name).render(values)
