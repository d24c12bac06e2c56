"""Figures of loss planes, from records and the planes that they name, nothing else.

Figures 1 to 4 and A.1 of the paper show surfaces, contours with the minimum marked and cuts, with
a capped or a logarithmic loss where it explodes. Here each comes in these three kinds.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from lla.landscape import Plane
from paper_tables.engine import store
from paper_tables.engine.exhibit import Drawing, Records
from paper_tables.engine.fidelity import least_faithful
from paper_tables.evidence.entries import STATES
from paper_tables.exhibits.table1.planes import Place, PlaneResult, pictured
from paper_tables.paper.names import display

COLOURS = 256  # of a picture: a third of the size
KINDS = ("surface", "contour", "line")


@dataclass(frozen=True)
class Panel:
    """One plane of a figure."""

    row: str
    state: str
    place: Place
    title: str
    cap: float | None = None  # in units of max(loss at the centre, ln C); display only

    @property
    def column(self) -> str:
        """The column of its records."""
        return self.place.column(self.state)


_UNIFORM, _NORMAL = Place("eval", "uniform", "4"), Place("eval", "normal", "4")

# Name of the file -> its panels, one line each.
FIGURES: dict[str, tuple[Panel, ...]] = {
    "landscape_lenet_random_axes": (
        Panel("lenet", "pretrained", _UNIFORM, "uniform axes"),
        Panel("lenet", "pretrained", _UNIFORM, "uniform axes, capped", cap=2.0),
        Panel("lenet", "pretrained", _NORMAL, "Gaussian axes"),
    ),
    "landscape_lenet_hessian_axes": (
        Panel("lenet", "pretrained", Place("eval", "hessian", "1"), "no normalization"),
        Panel("lenet", "pretrained", Place("eval", "hessian", "4"), "filter L2"),
    ),
    "landscape_resnet18_modes": (
        Panel("resnet18", "random", _UNIFORM, "eval mode"),
        Panel("resnet18", "random", Place("train", "uniform", "4"), "train mode"),
    ),
    "landscape_squeezenet_distributions": (
        Panel("squeezenet", "pretrained", _UNIFORM, "uniform axes"),
        Panel("squeezenet", "pretrained", _UNIFORM, "uniform axes, capped", cap=2.0),
        Panel("squeezenet", "pretrained", _NORMAL, "Gaussian axes"),
    ),
}


def figures(records: Records) -> list[Drawing]:
    """The figures for which all planes are there.

    Of several planes of one place the finest is drawn, then the most faithful.
    """
    best, found = pictured(records), []
    for name, panels in FIGURES.items():
        planes = [best[key] for panel in panels if (key := (panel.row, panel.column)) in best]
        if len(planes) == len(panels):
            found.append(
                Drawing(
                    name=name,
                    kind="surfaces",
                    alt=_alt(panels),
                    records=tuple(plane.record for plane in planes),
                    draw=functools.partial(draw, panels, planes),
                    colours=COLOURS,
                )
            )
    return found


def _alt(panels: Sequence[Panel]) -> str:
    first = panels[0]
    titles = "; ".join(panel.title for panel in panels)
    kinds = ", ".join(KINDS)
    return f"Loss around the {STATES[first.state]} of {display(first.row)} as {kinds}: {titles}"


def draw(panels: Sequence[Panel], planes: Sequence[PlaneResult], folder: Path) -> Figure:
    """Draw one line of pictures for each plane.

    Args:
        panels: what to draw.
        planes: the plane of each.
        folder: what the planes' artifacts are named relative to.

    Raises:
        ChecksumError: a plane is not the one that its record names.
    """
    size = (4.2 * len(KINDS), 3.5 * len(panels))
    figure = Figure(figsize=size, dpi=72, layout="constrained")
    for i, (panel, result) in enumerate(zip(panels, planes, strict=True)):
        plane = Plane.load(store.artifact(result.record, folder))
        unit = max(plane.center, math.log(plane.classes or 1))
        cap = None if panel.cap is None else panel.cap * unit
        for j, kind in enumerate(KINDS):
            projection = "3d" if kind == "surface" else None
            place = (len(panels), len(KINDS), i * len(KINDS) + j + 1)
            ax = figure.add_subplot(*place, projection=projection)
            plane.plot(kind, cap=cap, ax=ax)  # type: ignore[arg-type]
            if j == 1:
                found = plane.explosion()
                text = f"{panel.title}: ratio {found.ratio:.2g}, {found.verdict}"
                ax.set_title(text, fontsize=10, pad=22)
    first = planes[0].record
    network = f"{display(first.row)}, {STATES[panels[0].state]}"
    data = display(first.data.name) if first.data else ""
    fidelity = least_faithful(plane.record.fidelity for plane in planes)
    method = "" if len({p.place.method for p in panels}) > 1 else ", filter L2"
    figure.suptitle(
        f"{network}, {first.batch_size} images of {data}{method}, "
        f"{' and '.join(dict.fromkeys(f'{p.points} x {p.points}' for p in planes))} points "
        f"[fidelity: {fidelity}]",
        fontsize=11,
    )
    return figure
