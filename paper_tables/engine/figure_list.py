"""The drawn figures in the report: embedded, with a text for who cannot see them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from paper_tables.engine.cells import METRIC_NAMES
from paper_tables.evidence.entries import STATES
from paper_tables.exhibits.table1.figures import FIGURES, Panel
from paper_tables.paper.names import display

__all__ = ["Figure", "figures"]


@dataclass(frozen=True)
class Figure:
    """One picture."""

    name: str  # of the file
    kind: str  # what its name begins with: "hesd", "landscape", "generalization", "prediction"
    alt: str
    content: str  # base64


def figures(folder: Path) -> list[Figure]:
    """Every PNG picture below the folder of results, by name."""
    return [
        Figure(
            name=path.name,
            kind=path.stem.split("_")[0],
            alt=_alt(path.stem),
            content=base64.b64encode(path.read_bytes()).decode(),
        )
        for path in sorted((folder / "figures").glob("*.png"))
    ]


def _alt(stem: str) -> str:
    """What a picture shows, from its name and the panels that it was drawn with."""
    kind, *words = stem.split("_")
    if kind == "hesd":
        network, *data = words
        on = f" on {display('_'.join(data))}" if data else ""
        return f"Hessian spectral density of {display(network)}{on}, one panel a stage"
    if kind == "generalization":
        network, pair, *what = words
        shown = " and ".join(METRIC_NAMES.get(metric, metric) for metric in what)
        return f"{shown} of {display(network)} by epoch on two data sets ({pair})"
    if kind == "prediction":
        return "Rank correlation of losses and Hessian criteria with the change of accuracy"
    if stem.startswith("landscape_shift_"):
        network, pair = words[1:]
        return f"Loss around trained {display(network)} on both data sets of {pair}, as contours"
    if stem in FIGURES:
        return _planes(FIGURES[stem])
    return f"Figure: {' '.join([kind, *map(display, words)])}"


def _planes(panels: tuple[Panel, ...]) -> str:
    first = panels[0]
    titles = "; ".join(panel.title for panel in panels)
    kinds = ", ".join(first.kinds)
    return f"Loss around the {STATES[first.state]} of {display(first.row)} as {kinds}: {titles}"
