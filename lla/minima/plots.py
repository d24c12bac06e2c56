"""Pictures of minima: radii, one-dimensional cuts; see `lla.plotting`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from lla.plotting import COLOURS, axes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS = 30


def plot_radii(
    minima: Mapping[str, tuple[np.ndarray, np.ndarray]], *, ax: Axes | None = None
) -> Figure:
    """Histograms of radii on a logarithmic axis.

    Args:
        minima: name -> radii [K], and whether each reaches the cutoff [K]; those that do not are
            drawn where the search ended, and the legend counts them.
        ax: axes to draw into; a new figure by default.
    """
    from matplotlib import ticker

    figure, ax = axes_of(ax)
    every = np.concatenate([radii for radii, _ in minima.values()])
    low, high = float(every.min()), float(every.max())
    bins = np.geomspace(low / 1.05, high * 1.05, _BINS + 1).tolist()
    for i, (name, (radii, reached)) in enumerate(minima.items()):
        censored = int((~reached).sum())
        note = f"{censored} of {len(radii)} do not reach the cutoff" if censored else ""
        label = ", ".join(part for part in (name, note) if part) or None
        ax.hist(radii, bins=bins, color=COLOURS[i % len(COLOURS)], alpha=0.6, label=label)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda c, _: f"{c:g}"))
    ax.xaxis.set_minor_formatter(ticker.NullFormatter())
    ax.grid(color="0.92")
    ax.set(xlabel="radius, in units of the weights of each filter", ylabel="directions")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=8, frameon=False)
    return figure
