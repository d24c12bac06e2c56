"""Pictures of spectra and of eigenvalues; see `lla.plotting`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lla.plotting import COLOURS, axes_of, legend_above, whole_ticks, without_numpy_errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NODES = "Ritz values"  # the ticks below a density, in the legend
_POINTS = 1200  # of a curve
_ROW = 0.35  # decades of the density's axis that a row of ticks takes
_LINEAR = 1e-3  # share of the largest magnitude up to which the axis is linear


class Curve(NamedTuple):
    """One spectrum in a picture of several."""

    label: str
    nodes: np.ndarray  # [n]
    weights: np.ndarray  # [n], their sum 1
    size: int  # P, number of eigenvalues


@without_numpy_errors
def plot_spectrum(
    grid: np.ndarray,
    density: np.ndarray,
    nodes: np.ndarray,
    floor: float,
    *,
    ax: Axes | None = None,
    colour: str = COLOURS[0],
    label: str | None = None,
) -> Figure:
    """A spectral density on a logarithmic axis, with the nodes as ticks below it.

    Args:
        grid: eigenvalues [points].
        density: at these [points].
        nodes: Ritz values [n].
        floor: lower end of the axis; densities below it are cut off.
        ax: axes to draw into; a new figure by default.
        colour: of the curve.
        label: of the curve in the legend; a new figure always has a legend.
    """
    legend = bool(label) or ax is None
    figure, ax = axes_of(ax)
    shown = np.maximum(density, floor)
    ax.semilogy(grid, shown, color=colour, linewidth=1.2, label=label or "density")
    ax.fill_between(grid, floor, shown, color=colour, alpha=0.15, linewidth=0)
    explained = any(line.get_label() == NODES for line in ax.get_lines())
    ax.plot(
        nodes, np.full(len(nodes), 1.5 * floor), "|", color=colour, markersize=7, alpha=0.4,
        label=None if explained else NODES,
    )  # fmt: skip
    ax.axvline(0, color="0.5", linewidth=0.8, linestyle=":")
    ax.set_ylim(bottom=floor)
    ax.set(xlabel="eigenvalue of the Hessian", ylabel="density")
    if legend:
        ax.legend(frameon=False)
    return figure


@without_numpy_errors
def plot_spectra(
    curves: Sequence[Curve], *, linear: float | None = None, ax: Axes | None = None
) -> Figure:
    """Several spectra on one symmetric logarithmic axis, above one floor.

    The axis is linear around 0 and logarithmic beyond. Each node is broadened to a Gaussian of one
    width on this axis, so the density is per unit of the axis, which is a decade beyond the linear
    part. The floor is a tenth of the density of one eigenvalue of the largest of the matrices.

    Args:
        curves: one or more.
        linear: magnitude up to which the axis is linear; 1e-3 of the largest by default.
        ax: axes to draw into; a new figure by default.
    """
    figure, ax = axes_of(ax, (7.2, 4.4))
    axis = _Axis(curves, linear)
    for i, curve in enumerate(curves):
        colour = COLOURS[i % len(COLOURS)]
        shown = np.maximum(axis.density(curve), axis.floor)
        style = ("-", "--", "-.")[i // len(COLOURS) % 3]
        ax.plot(axis.grid, shown, style, color=colour, linewidth=1.2, label=curve.label)
        ax.fill_between(axis.grid, axis.floor, shown, color=colour, alpha=0.08, linewidth=0)
        row = np.full(len(curve.nodes), axis.floor * 10 ** (-_ROW * (i + 0.6)))
        ax.plot(curve.nodes, row, "|", color=colour, markersize=6, alpha=0.4)
    ax.plot([], [], "|", color="0.3", label=f"{NODES}, a row a spectrum")
    ax.set_yscale("log")
    ax.set_ylim(bottom=axis.floor * 10 ** (-_ROW * (len(curves) + 0.2)))
    axis.set_scale(ax, "x")
    ax.set(xlabel="eigenvalue of the Hessian", ylabel="density per decade of the axis")
    legend_above(ax, 3)
    return figure


@without_numpy_errors
def plot_spectra_over(
    times: np.ndarray,
    curves: Sequence[Curve],
    *,
    name: str = "epoch",
    linear: float | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Spectra over time as colours: time to the right, eigenvalues upwards, as `plot_spectra`.

    Args:
        times: [T], ascending.
        curves: the spectrum at each time [T].
        name: of the time.
        linear: see `plot_spectra`.
        ax: axes to draw into; a new figure by default.
    """
    from matplotlib.colors import LogNorm

    figure, ax = axes_of(ax, (7.2, 4.4))
    axis = _Axis(curves, linear)
    colours = np.stack([np.maximum(axis.density(curve), axis.floor) for curve in curves], 1)
    middle = (times[1:] + times[:-1]) / 2
    edges = np.concatenate([[2 * times[0] - middle[0]], middle, [2 * times[-1] - middle[-1]]])
    between = np.concatenate([axis.grid[:1], (axis.grid[1:] + axis.grid[:-1]) / 2, axis.grid[-1:]])
    drawn = ax.pcolormesh(
        edges, between, colours, norm=LogNorm(axis.floor, float(colours.max())), cmap="viridis",
        rasterized=True,
    )  # fmt: skip
    axis.set_scale(ax, "y")
    ax.plot(times, np.full(len(times), axis.grid[0]), "^", color=COLOURS[1], clip_on=False,
            label="measured")  # fmt: skip
    bar = ax.figure.colorbar(drawn, ax=ax, label="density per decade of the axis")
    bar.ax.tick_params(labelsize=8)
    ax.set(xlabel=name, ylabel="eigenvalue of the Hessian")
    ax.set_ylim(axis.grid[0], axis.grid[-1])
    legend_above(ax, 1)
    return figure


class _Axis:
    """The symmetric logarithmic axis that several spectra share."""

    def __init__(self, curves: Sequence[Curve], linear: float | None) -> None:
        from matplotlib.scale import SymmetricalLogTransform

        largest = max(float(np.abs(curve.nodes).max()) for curve in curves)
        self.linear = linear or _LINEAR * largest or 1.0
        self._transform: Any = SymmetricalLogTransform(10, self.linear, 1)
        places = np.concatenate([self._place(curve.nodes) for curve in curves])
        self._places = np.linspace(places.min() - 0.25, places.max() + 0.25, _POINTS)
        self.grid: np.ndarray = self._transform.inverted().transform(self._places * self.linear)
        self._sigma = float(np.ptp(self._places)) / 200
        least = min(1 / curve.size for curve in curves)
        self.floor = 0.1 * least / (self._sigma * math.sqrt(2 * math.pi))

    def _place(self, values: np.ndarray) -> np.ndarray:
        """Where eigenvalues lie on the axis, in units of a decade beyond the linear part."""
        found: np.ndarray = self._transform.transform(values) / self.linear
        return found

    def density(self, curve: Curve) -> np.ndarray:
        """The density per unit of the axis, at the points of the grid; its integral is 1."""
        distance = (self._places[:, None] - self._place(curve.nodes)) / self._sigma
        bells = np.exp(-0.5 * distance**2) / (self._sigma * math.sqrt(2 * math.pi))
        found: np.ndarray = bells @ curve.weights
        return found

    def set_scale(self, ax: Axes, which: str) -> None:
        """Give the axis "x" or "y" of a picture this scale, and ticks whose labels do not touch."""
        from matplotlib.ticker import FixedLocator, NullLocator

        getattr(ax, f"set_{which}scale")("symlog", linthresh=self.linear)
        axis = getattr(ax, f"{which}axis")
        low, high = float(self.grid[0]), float(self.grid[-1])
        first = math.ceil(math.log10(self.linear))
        last = math.floor(math.log10(max(abs(low), abs(high), self.linear)))
        step = max(1, math.ceil((last - first + 1) / 4))
        powers = [10.0**p for p in range(last, first - 1, -step)]
        ticks = [-p for p in powers if low <= -p] + [0.0] + [p for p in powers[::-1] if p <= high]
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_minor_locator(NullLocator())


@without_numpy_errors
def plot_eigenvalues(
    values: np.ndarray, residuals: np.ndarray, which: str, *, ax: Axes | None = None
) -> Figure:
    """Eigenvalues in order of extremity, with their residuals as error bars.

    Args:
        values: eigenvalues [k], the most extreme first.
        residuals: of the eigenvalues [k].
        which: names the order, such as "LA".
        ax: axes to draw into; a new figure by default.
    """
    figure, ax = axes_of(ax)
    order = np.arange(1, len(values) + 1)
    ax.errorbar(order, values, yerr=residuals, fmt="o", color=COLOURS[0], capsize=3)
    ax.axhline(0, color="0.5", linewidth=0.8, linestyle=":")
    ax.set_xlim(0.5, len(values) + 0.5)
    whole_ticks(ax)
    ax.set(xlabel=f"rank ({which})", ylabel="eigenvalue of the Hessian")
    return figure
