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
from paper_tables.engine.records import FIDELITIES
from paper_tables.evidence.entries import STATES
from paper_tables.exhibits.table1.planes import Place, PlaneResult, results
from paper_tables.paper.names import display

COLOURS = 256  # of a picture: a third of the size
SMALLEST = 9  # points along an axis: a coarser plane is no picture


@dataclass(frozen=True)
class Panel:
    """One plane of a figure."""

    row: str
    state: str
    place: Place
    title: str
    kinds: tuple[str, ...]
    cap: float | None = None  # in units of max(loss at the centre, ln C); display only

    @property
    def column(self) -> str:
        """The column of its records."""
        return self.place.column(self.state)


def _panel(
    row: str, state: str, place: Place, title: str, *kinds: str, cap: float | None = None
) -> Panel:
    return Panel(row, state, place, title, kinds, cap)


# Name of the file -> its panels, one line each.
FIGURES: dict[str, tuple[Panel, ...]] = {
    "landscape_lenet_random_axes": (
        _panel("lenet", "pretrained", Place("eval", "uniform", "4"), "uniform axes",
               "surface", "contour", "line"),
        _panel("lenet", "pretrained", Place("eval", "uniform", "4"), "uniform axes, capped",
               "surface", "contour", "line", cap=2.0),
        _panel("lenet", "pretrained", Place("eval", "normal", "4"), "Gaussian axes",
               "surface", "contour", "line"),
    ),
    "landscape_lenet_hessian_axes": (
        _panel("lenet", "pretrained", Place("eval", "hessian", "1"), "no normalization",
               "surface", "contour", "line"),
        _panel("lenet", "pretrained", Place("eval", "hessian", "4"), "filter L2",
               "surface", "contour", "line"),
    ),
    "landscape_resnet18_modes": (
        _panel("resnet18", "random", Place("eval", "uniform", "4"), "eval mode",
               "surface", "contour", "line"),
        _panel("resnet18", "random", Place("train", "uniform", "4"), "train mode",
               "surface", "contour", "line"),
    ),
    "landscape_squeezenet_distributions": (
        _panel("squeezenet", "pretrained", Place("eval", "uniform", "4"), "uniform axes",
               "surface", "contour", "line"),
        _panel("squeezenet", "pretrained", Place("eval", "uniform", "4"), "uniform axes, capped",
               "surface", "contour", "line", cap=2.0),
        _panel("squeezenet", "pretrained", Place("eval", "normal", "4"), "Gaussian axes",
               "surface", "contour", "line"),
    ),
}  # fmt: skip


def figures(records: Records) -> list[Drawing]:
    """The figures for which all planes are there.

    Of several planes of one place the finest is drawn, then the most faithful.
    """
    best, found = _best(records), []
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
    kinds = ", ".join(first.kinds)
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
    width = max(len(panel.kinds) for panel in panels)
    figure = Figure(figsize=(4.2 * width, 3.5 * len(panels)), dpi=72, layout="constrained")
    for i, (panel, result) in enumerate(zip(panels, planes, strict=True)):
        plane = _plane(result, folder)
        unit = max(plane.center, math.log(plane.classes or 1))
        cap = None if panel.cap is None else panel.cap * unit
        for j, kind in enumerate(panel.kinds):
            projection = "3d" if kind == "surface" else None
            ax = figure.add_subplot(len(panels), width, i * width + j + 1, projection=projection)
            plane.plot(kind, cap=cap, ax=ax)  # type: ignore[arg-type]
            if j == 1 or len(panel.kinds) == 1:
                found = plane.explosion()
                text = f"{panel.title}: ratio {found.ratio:.2g}, {found.verdict}"
                ax.set_title(text, fontsize=10, pad=22)
    first = planes[0].record
    data = display(first.data.name) if first.data else ""
    state = "random weights" if panels[0].state == "random" else "trained weights"
    method = "" if len({p.place.method for p in panels}) > 1 else ", filter L2"
    figure.suptitle(
        f"{display(first.row)}, {state}, {first.batch_size} images of {data}{method}, "
        f"{' and '.join(dict.fromkeys(f'{p.points} x {p.points}' for p in planes))} points "
        f"[fidelity: {_fidelity(planes)}]",
        fontsize=11,
    )
    return figure


def _best(records: Records) -> dict[tuple[str, str], PlaneResult]:
    """By network and column: the finest plane, then the most faithful, of seed 0."""
    found: dict[tuple[str, str], PlaneResult] = {}
    for plane in results(records):
        drawable = plane.record.artifact is not None and not plane.stopped
        if not drawable or plane.points < SMALLEST or plane.seed != 0:
            continue
        key = (plane.row, plane.record.column)
        if key not in found or _quality(plane) > _quality(found[key]):
            found[key] = plane
    return found


def _quality(plane: PlaneResult) -> tuple[int, int]:
    return (plane.points, -FIDELITIES.index(plane.record.fidelity or "substitute"))


def _fidelity(planes: Sequence[PlaneResult]) -> str:
    return least_faithful(p.record.fidelity for p in planes)


def _plane(result: PlaneResult, folder: Path) -> Plane:
    return Plane.load(store.artifact(result.record, folder))
