"""The loss planes of Table 1 as surfaces that can be turned."""

from __future__ import annotations

from pathlib import Path

from lla.landscape import Plane
from lla.report.plots import surface
from paper_tables.engine import store
from paper_tables.engine.exhibit import Plot, Records
from paper_tables.engine.records import FIDELITIES
from paper_tables.evidence.entries import AXES, STATES
from paper_tables.exhibits.table1.planes import PlaneResult, results
from paper_tables.paper import paper_rows
from paper_tables.paper.explosion import METHODS, RECOMMENDED
from paper_tables.paper.names import display

SMALLEST = 9  # points along an axis: a coarser plane is no picture
MOST_SURFACES = 12
SHOWN = ("4", RECOMMENDED)  # methods: one that explodes, one that does not


def plots(records: Records, folder: Path) -> list[Plot]:
    """The finest planes of the first networks that have some.

    Args:
        records: all published records.
        folder: what their artifacts are named relative to.

    Raises:
        ChecksumError: an artifact is not the one that its record names.
    """
    return [_plot(result, folder) for result in _planes(records)]


def _planes(records: Records) -> list[PlaneResult]:
    """The finest planes, one of each place; those of trained weights and eval mode first."""
    best: dict[tuple[str, str], PlaneResult] = {}
    for plane in results(records):
        usable = plane.record.artifact is not None and not plane.stopped and plane.seed == 0
        if not usable or plane.points < SMALLEST or plane.place.frozen:
            continue
        key = (plane.row, plane.record.column)
        if plane.place.method in SHOWN and (key not in best or _finer(plane) > _finer(best[key])):
            best[key] = plane
    finest = max((plane.points for plane in best.values()), default=0)
    found = [plane for plane in best.values() if plane.points == finest]
    return sorted(found, key=_order)[:MOST_SURFACES]


def _finer(plane: PlaneResult) -> tuple[int, int]:
    return (plane.points, -FIDELITIES.index(plane.record.fidelity or FIDELITIES[-1]))


def _order(plane: PlaneResult) -> tuple[object, ...]:
    place, rows = plane.place, paper_rows(plane.record.table)
    axes = ("uniform", "normal", "hessian")
    return (
        rows.index(plane.row) if plane.row in rows else len(rows),
        plane.state != "pretrained",
        place.mode != "eval",
        axes.index(place.axes) if place.axes in axes else len(axes),
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
    options = METHODS[method]
    if options["normalization"] == "filter":
        return f"filter L{options['order']}"
    return f"{options['normalization'] or 'none'!r}"
