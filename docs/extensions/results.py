"""Links from pages to `results/`, which is not part of the site, lead to the report, which is."""

import re
from typing import Any

from sphinx.application import Sphinx

_LINK = re.compile(r"\[([^\]]+)\]\((?:\.\./)+results/(\w+)\.(?:md|html)\)")


def setup(app: Sphinx) -> dict[str, Any]:
    """Rewrite the links of each page when it is read."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True}


def _read(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = rewritten(source[0], page.count("/"))


def rewritten(text: str, depth: int) -> str:
    """A page with links to the report.

    Args:
        text: the page.
        depth: folders between the top of the site and the page.

    >>> rewritten("[the exhibit](../results/level_sets.md)", depth=0)
    '<a href="report.html#level-sets">the exhibit</a>'
    """
    up = "../" * depth

    def link(found: re.Match[str]) -> str:
        anchor = "" if found[2] == "report" else f"#{found[2].replace('_', '-')}"
        return f'<a href="{up}report.html{anchor}">{found[1]}</a>'

    return _LINK.sub(link, text)
