"""The loss planes of Table 1 as surfaces that can be turned."""

from __future__ import annotations

from pathlib import Path

from lla.landscape import Plane
from lla.report.plots import surface
from paper_tables.engine import store
from paper_tables.engine.exhibit import Plot, Records
from paper_tables.evidence.entries import AXES, STATES
from paper_tables.exhibits.table1.planes import TABLE, PlaneResult, pictured
from paper_tables.paper import paper_rows
from paper_tables.paper.explosion import RECOMMENDED
from paper_tables.paper.names import display

MOST_SURFACES = 6
SHOWN = ("4", RECOMMENDED)  # methods: one that explodes, one that does not


def plots(records: Records, folder: Path) -> list[Plot]:
    """Surfaces of the finest planes, network after network in the paper's order.

    Args:
        records: all published records.
        folder: what their artifacts are named relative to.

    Raises:
        ChecksumError: an artifact is not the one that its record names.
    """
    return [_plot(result, folder) for result in _planes(records)]


def _planes(records: Records) -> list[PlaneResult]:
    """The finest planes, one for each place; trained weights and eval mode first."""
    best = [
        plane
        for plane in pictured(records).values()
        if plane.place.method in SHOWN and not plane.place.frozen
    ]
    finest = max((plane.points for plane in best), default=0)
    return sorted((p for p in best if p.points == finest), key=_order)[:MOST_SURFACES]


def _order(plane: PlaneResult) -> tuple[object, ...]:
    place = plane.place
    return (
        paper_rows(TABLE).index(plane.row),
        plane.state != "pretrained",
        place.mode != "eval",
        ("uniform", "normal", "hessian").index(place.axes),
        SHOWN.index(place.method),
    )


def _plot(result: PlaneResult, folder: Path) -> Plot:
    plane = Plane.load(store.artifact(result.record, folder))
    place, found = result.place, plane.explosion()
    axes = AXES.get(place.axes, place.axes)
    name = (
        f"{display(result.row)}, {STATES[result.state]}, {place.mode} mode, {axes} axes, "
        f"{_method(place.method)}"
    )
    caption = (
        f"{name}: ratio {found.ratio:.3g}, {found.verdict}; {result.points} x {result.points} "
        f"points, fidelity {result.record.fidelity}. The dot: the unmodified weights."
    )
    return Plot("surfaces", surface(plane, name, caption))


def _method(method: str) -> str:
    """The name of a method of `SHOWN`."""
    return "filter L2" if method == "4" else repr(method)
