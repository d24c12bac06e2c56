"""Pictures for turning and zooming in a page: plotly figures as plain data.

The page draws them with plotly.js; without plotly.js it shows the drawn figures instead.
"""

from __future__ import annotations

import base64
import functools
import gzip
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lla.hessian.spectrum import Spectrum
from lla.landscape.plane import Plane
from lla.plotting import COLOURS

MOST_NODES = 800  # of a spectrum
POINTS = 1200  # of a curve: six a width of its Gaussians
DIGITS = 5  # significant digits in the page


def surface(plane: Plane, name: str, caption: str) -> dict[str, Any]:
    """Make the surface of a loss plane.

    Args:
        plane: the plane; its loss is shown as a logarithm where it spans two decades.
        name: of the plane, for the list to choose from.
        caption: what stands below it.

    Returns:
        `name`, `caption`, and plotly's `data` and `layout`.
    """
    loss = np.where(np.isfinite(plane.loss), plane.loss, np.nan).astype(np.float64)
    finite = loss[np.isfinite(loss)]
    log = bool(finite.min() > 0 and finite.max() >= 100 * finite.min())
    heights = np.log10(loss) if log else loss
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
    return {"name": name, "caption": caption, "data": [trace, centre], "layout": {"scene": scene}}


def spectra(curves: Sequence[tuple[str, Spectrum]], name: str, caption: str) -> dict[str, Any]:
    """Make the densities of several spectra in one picture.

    Args:
        curves: names and spectra.
        name: of the picture, for the list to choose from.
        caption: what stands below it.

    Returns:
        `name`, `caption`, and plotly's `data` and `layout`.
    """
    bottom = min(spectrum.floor() for _, spectrum in curves) / 2
    traces: list[dict[str, Any]] = []
    for i, (title, spectrum) in enumerate(curves):
        traces += _curve(spectrum, title, COLOURS[i % len(COLOURS[:-1])], bottom)
    layout = {
        "xaxis": {"title": {"text": "eigenvalue of the Hessian", "standoff": 8}},
        "yaxis": {"title": {"text": "density"}, "type": "log", "exponentformat": "power"},
        "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"},
    }
    return {"name": name, "caption": caption, "data": traces, "layout": layout}


@functools.cache
def plotly_script() -> str:
    """plotly.js, compressed as the page unpacks it: a third of its size."""
    from plotly.offline import get_plotlyjs  # imported late, so that only a page waits for it

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def _curve(spectrum: Spectrum, name: str, colour: str, bottom: float) -> list[dict[str, Any]]:
    """The density as a line, and its nodes as ticks below."""
    grid = spectrum.grid(POINTS)
    density, floor = spectrum.density(grid), spectrum.floor(grid)
    runs = slice(max(1, MOST_NODES // spectrum.steps))  # if there are many, the first ones
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


def _rounded(values: np.ndarray, digits: int = DIGITS) -> list[float | None]:
    """Numbers with few digits; values that are not finite become gaps."""
    return [_number(value, digits) for value in values.tolist()]


def _number(value: float, digits: int = DIGITS) -> float | None:
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
