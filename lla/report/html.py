"""The report as one HTML page that loads nothing else."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

from jinja2 import Template
from markupsafe import Markup, escape

from lla.report import prose
from lla.report.contents import Report
from lla.report.plots import plotly_script
from lla.report.view import absences

LEAD = 120  # a longer note is folded, and shows this many characters

LINK = re.compile(r"\[([^\]]+)\]\(([\w./-]+\.(?:md|csv|png))\)")

# Verdict or fidelity -> the sign and word that are shown besides its colour.
SIGNS = {
    "reproduced": ("✓", "reproduced"),
    "close": ("≈", "close"),
    "differs": ("✗", "differs"),
    "not_run": ("○", "not run"),
    "holds": ("✓", "holds"),
    "fails": ("✗", "fails"),
    "undecided": ("?", "undecided"),
    "paper": ("◆", "paper"),
    "reduced": ("◈", "reduced"),
    "replication": ("❖", "replication"),
    "substitute": ("◇", "substitute"),
}


def render(report: Report, key: str) -> str:
    """Write the page.

    Args:
        report: the contents.
        key: stored in the page, to tell later what it was written for.
    """
    plots = {gallery.kind: gallery.plots for gallery in report.galleries if gallery.plots}
    return _template().render(
        report=report,
        galleries=[g for g in report.galleries if g.pictures or g.plots or g.absence],
        key=key,
        signs=SIGNS,
        absences=absences,
        plots=render_json(plots) if plots else "",
        plotly=Markup(plotly_script()) if plots else "",
    )


@functools.cache
def _template() -> Template:
    path = Path(__file__).parent / "templates" / "report.html.j2"
    return prose.load(path, {"lead": _lead, "paragraphs": _paragraphs}, autoescape=True)


def _lead(note: str) -> str:
    """The first, most important part of a note.

    >>> _lead("18 of 32 planes agree; with signed L1 18"), len(_lead("no " * 100))
    ('18 of 32 planes agree …', 120)
    """
    first = note.split("; ")[0]
    if len(first) > LEAD:
        return first[: LEAD - 2].rstrip() + " …"
    return first if first == note else f"{first} …"


def _paragraphs(text: str) -> Markup:
    """A plain text as escaped paragraphs with links; HTML is returned unchanged."""
    if isinstance(text, Markup):
        return text
    parts = (part.strip() for part in text.split("\n\n"))
    return Markup("\n").join(Markup("<p>{}</p>").format(_linked(part)) for part in parts if part)


def _linked(text: str) -> Markup:
    """A text, escaped, in which `[words](page.md)` leads to a file beside the report.

    >>> str(_linked("see [a page](figures/a_1.png) & [0, 1](2)"))
    'see <a href="figures/a_1.png">a page</a> &amp; [0, 1](2)'
    """
    words = LINK.split(text)
    found = [escape(words[0])]
    for shown, target, after in zip(words[1::3], words[2::3], words[3::3], strict=True):
        found += [Markup('<a href="{}">{}</a>').format(target, shown), escape(after)]
    return Markup("").join(found)


def render_json(value: object) -> Markup:
    """JSON that can stand inside a script element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), sort_keys=True)
    return Markup(text.replace("<", "\\u003c"))
