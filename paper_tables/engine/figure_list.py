"""The drawn figures in the report: embedded, with a text for who cannot see them."""

from __future__ import annotations

import base64
from pathlib import Path

from lla.report.contents import Picture
from paper_tables.engine.cells import METRICS
from paper_tables.evidence.entries import STATES
from paper_tables.exhibits.table1.figures import FIGURES, Panel
from paper_tables.paper.names import display

__all__ = ["pictures"]


def pictures(folder: Path) -> dict[str, list[Picture]]:
    """Every PNG picture below the folder of results, by what its name begins with and by name."""
    found: dict[str, list[Picture]] = {}
    for path in sorted((folder / "figures").glob("*.png")):
        content = base64.b64encode(path.read_bytes()).decode()
        kind = path.stem.split("_")[0]
        found.setdefault(kind, []).append(Picture(path.name, _alt(path.stem), content))
    return found


def _alt(stem: str) -> str:
    """What a picture shows, from its name and the panels that it was drawn with."""
    kind, *words = stem.split("_")
    if kind == "hesd":
        network, *data = words
        on = f" on {display('_'.join(data))}" if data else ""
        return f"Hessian spectral density of {display(network)}{on}, one panel a stage"
    if kind == "generalization":
        network, pair, *what = words
        shown = " and ".join(METRICS.get(metric, metric) for metric in what)
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
