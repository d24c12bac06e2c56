"""The picture of the criteria over a training; see `lla.plotting`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lla.plotting import COLOURS, axes_of, legend_above, without_numpy_errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = tuple[Sequence[float], Sequence[float]]  # values and standard errors; NaN: not known


@without_numpy_errors
def plot_criteria_over(
    steps: Sequence[int], curves: Mapping[str, Curve], *, ax: Axes | None = None
) -> Figure:
    """Each criterion over the steps of a training, with bars of two standard errors.

    The axis is logarithmic if all values are positive; a bar that would reach zero ends at the
    lower edge then. Points that follow one another are joined, also over steps without a value.

    Args:
        steps: at which was measured [n].
        curves: of each criterion by the name that the legend shows, [n] each.
        ax: axes to draw into; a new figure by default.
    """
    figure, ax = axes_of(ax)
    places = np.asarray(steps, dtype=float)
    lowest = np.inf
    for i, (name, (values, errors)) in enumerate(curves.items()):
        heights = np.asarray(values, dtype=float)
        known = np.isfinite(heights)
        bars = 2 * np.nan_to_num(np.asarray(errors, dtype=float)[known])
        ax.errorbar(
            places[known], heights[known], yerr=bars, fmt=("o-", "s-", "^-")[i % 3],
            color=COLOURS[i % len(COLOURS)], markersize=4, linewidth=1.2, capsize=2, label=name,
        )  # fmt: skip
        lowest = min(lowest, heights[known].min(initial=np.inf))
    if 0 < lowest < np.inf:
        ax.set_yscale("log", nonpositive="clip")
        ax.set_ylim(bottom=max(ax.get_ylim()[0], lowest / 3))
    ax.grid(color="0.92")
    ax.set(xlabel="step", ylabel="criterion")
    if curves:
        legend_above(ax, len(curves))
    return figure
