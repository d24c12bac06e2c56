"""The report as one page of HTML that loads nothing from elsewhere."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from jinja2 import Template
from markupsafe import Markup, escape

from lla.report import prose
from lla.report.contents import Report
from lla.report.plots import plotly_script
from lla.report.view import absences

LEAD = 120  # characters of a note that are shown before it is opened

# What stands for a verdict or a fidelity beside its colour: sign and word.
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
    "substitute": ("◇", "substitute"),
}


def render(report: Report, key: str) -> str:
    """Write the page.

    Args:
        report: what it says.
        key: what it was written for, kept in it.
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
    """The first part of a note, which says most.

    >>> _lead("18 of 32 planes agree; with signed L1 18"), len(_lead("no " * 100))
    ('18 of 32 planes agree …', 120)
    """
    first = note.split("; ")[0]
    if len(first) > LEAD:
        return first[: LEAD - 2].rstrip() + " …"
    return first if first == note else f"{first} …"


def _paragraphs(text: str) -> Markup:
    """A plain text as paragraphs, escaped; what is HTML already stays as it is."""
    if isinstance(text, Markup):
        return text
    parts = (part.strip() for part in text.split("\n\n"))
    return Markup("\n").join(Markup("<p>{}</p>").format(escape(part)) for part in parts if part)


def render_json(value: object) -> Markup:
    """JSON that can stand inside a script element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), sort_keys=True)
    return Markup(text.replace("<", "\\u003c"))
