"""Pages of prose: Jinja templates of Markdown, filled with numbers and tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from lla.report.pages import grid, summary


def fill(template: Path, **values: object) -> str:
    """Write a page from its template.

    The filters `grid` and `summary` write a `Table` and its counts, see `lla.report.pages`.

    Args:
        template: the file.
        **values: the names in the template; a missing one is an error.
    """
    filters = {"grid": grid, "summary": summary}
    return load(template, filters, keep_trailing_newline=True).render(values)


def load(path: Path, filters: Mapping[str, Callable[..., str]], **options: Any) -> Template:
    """Read a template; a missing name is an error when it is filled.

    Args:
        path: the file.
        filters: functions that it may use, by name.
        **options: others of Jinja's environment.
    """
    environment = Environment(
        loader=FileSystemLoader(path.parent),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        **options,
    )
    environment.filters |= filters
    return environment.get_template(path.name)
