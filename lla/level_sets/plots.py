"""Pictures of walks on level sets; see `lla.plotting`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lla.plotting import COLOURS, axes_of, legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_levels(
    along: np.ndarray, curves: Mapping[str, np.ndarray], *, ax: Axes | None = None
) -> Figure:
    """Numbers along a path, each relative to its first value, on a logarithmic axis.

    Args:
        along: length of the path up to each point [T].
        curves: name -> values [T]; one that starts at 0 is left out.
        ax: axes to draw into; a new figure by default.
    """
    figure, ax = axes_of(ax)
    shown = {name: values / values[0] for name, values in curves.items() if values[0] > 0}
    for i, (name, values) in enumerate(shown.items()):
        style = ("-", "--", ":")[i // len(COLOURS) % 3]
        width = 2.2 if name == "test loss" else 1.3
        ax.plot(along, values, style, color=COLOURS[i % len(COLOURS)], linewidth=width, label=name)
    ax.axhline(1, color="0.6", linewidth=0.8, linestyle=":")
    ax.set_yscale("log")
    ax.grid(color="0.92", which="both")
    ax.set(xlabel="length of the path", ylabel="relative to the start")
    ax.legend(frameon=False, fontsize=8)
    return figure


def plot_paths(
    coordinates: Mapping[str, Sequence[np.ndarray]],
    explained: np.ndarray,
    *,
    ax: Axes | None = None,
    colours: Sequence[str] = COLOURS,
) -> Figure:
    """Several paths on common principal axes; a dot marks the start, a cross the end.

    Args:
        coordinates: name -> paths [T, 2] of one colour.
        explained: shares of the variance of the axes [2].
        ax: axes to draw into; a new figure by default.
        colours: of the names.
    """
    figure, ax = axes_of(ax, (5.6, 4.4))
    for i, (name, paths) in enumerate(coordinates.items()):
        colour = colours[i % len(colours)]
        for k, path in enumerate(paths):
            label = None if k else name
            ax.plot(*path.T, "-", color=colour, linewidth=1.3, label=label, zorder=3)
            ax.plot(*path[0], "o", color="k", markersize=5, zorder=4)
            ax.plot(*path[-1], "x", color=colour, markersize=8, markeredgewidth=2, zorder=4)
    x, y = (f"principal axis {i}, {s:.1%} of the variance" for i, s in enumerate(explained, 1))
    ax.set(xlabel=x, ylabel=y)
    legend_above(ax, 3)
    return figure
