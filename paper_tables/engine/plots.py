"""Data of the pictures that can be turned and zoomed, from the artifacts that records name.

The page draws them with plotly.js; without it the drawn figures stand in their place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lla import Spectrum
from lla.landscape import Plane
from lla.plotting import COLOURS
from paper_tables.engine import store
from paper_tables.engine.cells import settings_key
from paper_tables.engine.records import FIDELITIES, Record
from paper_tables.evidence.entries import AXES, STATES
from paper_tables.exhibits.table1.planes import PlaneResult, results
from paper_tables.exhibits.table2.figures import ALL_STAGES
from paper_tables.paper import paper_rows
from paper_tables.paper.explosion import METHODS, RECOMMENDED
from paper_tables.paper.names import display

__all__ = ["spectra", "surfaces"]

SMALLEST = 9  # points along an axis: a coarser plane is no picture
MOST_SURFACES = 12
MOST_NODES = 800  # of a spectrum
SHOWN = ("4", RECOMMENDED)  # methods: one that explodes, one that does not
POINTS = 1200  # of a curve: six a width of its Gaussians
DIGITS = 5  # significant digits in the page


def surfaces(records: Sequence[Record], folder: Path) -> list[dict[str, Any]]:
    """Loss planes as plotly figures with a name: the finest planes of the first network that has.

    Args:
        records: all published records.
        folder: what their artifacts are named relative to.

    Raises:
        ChecksumError: an artifact is not the one that its record names.
    """
    return [_surface(plane, folder) for plane in _planes(records)]


def spectra(records: Sequence[Record], folder: Path) -> list[dict[str, Any]]:
    """Hessian spectra as plotly figures with a name, one a network and its data.

    Args:
        records: all published records.
        folder: what their artifacts are named relative to.

    Raises:
        ChecksumError: an artifact is not the one that its record names.
    """
    return [_spectrum(group, folder) for group in _series(records)]


# --- planes


def _planes(records: Sequence[Record]) -> list[PlaneResult]:
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


def _surface(result: PlaneResult, folder: Path) -> dict[str, Any]:
    plane = Plane.load(store.artifact(result.record, folder))
    loss = np.where(np.isfinite(plane.loss), plane.loss, np.nan).astype(np.float64)
    finite = loss[np.isfinite(loss)]
    log = bool(finite.min() > 0 and finite.max() >= 100 * finite.min())
    heights = np.log10(loss) if log else loss
    place = result.place
    found = plane.explosion()
    axes = AXES.get(place.axes, place.axes)
    name = (
        f"{display(result.row)}, {STATES[result.state]}, {place.mode} mode, {axes} axes, "
        f"{_method(place.method)}"
    )
    trace = {
        "type": "surface",
        "x": _rounded(plane.b),
        "y": _rounded(plane.a),
        "z": [_rounded(line) for line in heights],
        "customdata": [_rounded(line) for line in loss],
        "colorscale": "Cividis",
        "colorbar": {"title": {"text": "log10 loss" if log else "loss"}, "thickness": 12,
                     "len": 0.7},
        "hovertemplate": "loss %{customdata:.4g}<br>a %{y}, b %{x}<extra></extra>",
    }  # fmt: skip
    middle = (len(plane.a) // 2, len(plane.b) // 2)
    centre = {
        "type": "scatter3d",
        "mode": "markers",
        "x": [_number(plane.b[middle[1]])],
        "y": [_number(plane.a[middle[0]])],
        "z": [_number(float(heights[middle]))],
        "marker": {"size": 4, "color": COLOURS[1]},
        "hovertemplate": f"the weights, loss {plane.center:.4g}<extra></extra>",
    }
    scene = {
        "xaxis": {"title": {"text": "b"}},
        "yaxis": {"title": {"text": "a"}},
        "zaxis": {"title": {"text": "log10 loss" if log else "loss"}},
        "camera": {"eye": {"x": 1.5, "y": -1.5, "z": 0.9}},
    }
    caption = (
        f"{name}: ratio {found.ratio:.3g}, {found.verdict}; {result.points} x {result.points} "
        f"points, fidelity {result.record.fidelity}. The dot: the unmodified weights."
    )
    return {"name": name, "caption": caption, "data": [trace, centre], "layout": {"scene": scene}}


def _method(method: str) -> str:
    options = METHODS[method]
    if options["normalization"] == "filter":
        return f"filter L{options['order']}"
    return f"{options['normalization'] or 'none'!r}"


# --- spectra


def _series(records: Iterable[Record]) -> list[list[Record]]:
    """The spectra of each network and data set, at the settings with most of them."""
    groups: dict[tuple[str, str], dict[tuple[object, ...], dict[str, Record]]] = {}
    for record in records:
        usual = not record.legacy and record.config.get("init", "torch") == "torch"
        if usual and _is_spectrum(record) and _stage(record) in ALL_STAGES:
            data = record.data.name if record.data else ""
            group = groups.setdefault((record.row, data), {})
            group.setdefault(settings_key(record), {}).setdefault(_stage(record), record)

    def quality(stages: dict[str, Record]) -> tuple[int, ...]:
        found = list(stages.values())
        rank = max(FIDELITIES.index(r.fidelity or FIDELITIES[-1]) for r in found)
        return (len(found), -rank, found[0].m or 0, found[0].batch_size or 0)

    chosen = [max(group.values(), key=quality) for group in groups.values()]
    return [[stages[name] for name in ALL_STAGES if name in stages] for stages in chosen]


def _is_spectrum(record: Record) -> bool:
    name = record.artifact.name if record.artifact else ""
    return name.startswith("spectra/") and name.endswith(".npz")


def _stage(record: Record) -> str:
    """The stage and mode; a column of Table 4 names the pictures instead."""
    if record.column in ALL_STAGES:
        return record.column
    return f"{record.config.get('state')}/{record.config.get('mode')}"


def _spectrum(group: Sequence[Record], folder: Path) -> dict[str, Any]:
    traces: list[dict[str, Any]] = []
    loaded = [Spectrum.load(store.artifact(record, folder)) for record in group]
    bottom = min(spectrum.floor() for spectrum in loaded) / 2
    for i, (record, spectrum) in enumerate(zip(group, loaded, strict=True)):
        name = f"{ALL_STAGES[_stage(record)]}, {record.config.get('mode', 'eval')} mode"
        if record.config.get("epoch") is not None:
            name += f", epoch {record.config['epoch']}"
        traces += _curve(spectrum, f"{name} [{record.fidelity}]", COLOURS[i % len(COLOURS[:-1])],
                         bottom)  # fmt: skip
    first = group[0]
    data = display(first.data.name) if first.data else "no data"
    name = f"{display(first.row)} on {data}"
    caption = (
        f"{name}: {first.batches} x {first.batch_size} images, {first.probes} probes, m = "
        f"{first.m}. Ticks at the bottom: nodes of the quadrature; each has its weight."
    )
    layout = {
        "xaxis": {"title": {"text": "eigenvalue of the Hessian", "standoff": 8}},
        "yaxis": {"title": {"text": "density"}, "type": "log", "exponentformat": "power"},
        "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"},
    }
    return {"name": name, "caption": caption, "data": traces, "layout": layout}


def _curve(spectrum: Spectrum, name: str, colour: str, bottom: float) -> list[dict[str, Any]]:
    """The density as a line, and its nodes as ticks below."""
    grid = spectrum.grid(POINTS)
    density, floor = spectrum.density(grid), spectrum.floor(grid)
    runs = slice(max(1, MOST_NODES // spectrum.steps))  # the first ones, if they are many
    real = np.arange(spectrum.steps) < spectrum.counts[runs, None]
    nodes, weights = spectrum.eigenvalues[runs][real], spectrum.weights[runs][real]
    line = {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "legendgroup": name,
        "x0": _number(grid[0]),
        "dx": _number(grid[1] - grid[0], 9),
        "y": _rounded(np.where(density < floor, np.nan, density)),
        "line": {"color": colour, "width": 1.5},
        "hovertemplate": "%{x:.4g}: density %{y:.3g}<extra></extra>",
    }
    ticks = {
        "type": "scatter",
        "mode": "markers",
        "legendgroup": name,
        "showlegend": False,
        "x": _rounded(nodes),
        "y": [_number(bottom)] * len(nodes),
        "customdata": _rounded(weights, 3),
        "marker": {"symbol": "line-ns-open", "color": colour, "size": 9, "opacity": 0.5},
        "hovertemplate": "node %{x:.5g}, weight %{customdata}<extra></extra>",
    }
    return [line, ticks]


# --- both


def _rounded(values: np.ndarray, digits: int = DIGITS) -> list[float | None]:
    """Short numbers; what is not finite becomes a gap."""
    return [_number(value, digits) for value in values.tolist()]


def _number(value: float, digits: int = DIGITS) -> float | None:
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
