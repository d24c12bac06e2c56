"""Pictures of numbers. Figures are made without pyplot, so no global state is touched.

matplotlib is imported when the first picture is drawn, not with this module.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, cast

import numpy as np

from lla.arguments import positive_number
from lla.errors import InputError
from lla.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

# Okabe and Ito's colours, told apart by readers with any kind of colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def _without_numpy_errors(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw without NumPy's errors, which the caller may have turned on by `np.seterr`."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **options: P.kwargs) -> Figure:
        with np.errstate(all="ignore"):
            return draw(*args, **options)

    return drawn


def axes_of(
    ax: Axes | None, size: tuple[float, float] = (6.4, 4.0), projection: str | None = None
) -> tuple[Figure, Axes]:
    """The given axes and their figure, or new ones.

    Args:
        ax: axes to draw into, or None.
        size: of a new figure, in inches.
        projection: of new axes, "3d" or None.
    """
    if ax is not None:
        return cast("Figure", ax.figure), ax
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.add_subplot(projection=projection)


@_without_numpy_errors
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
        label: of the curve in the legend.
    """
    figure, ax = axes_of(ax)
    shown = np.maximum(density, floor)
    ax.semilogy(grid, shown, color=colour, linewidth=1.2, label=label)
    ax.fill_between(grid, floor, shown, color=colour, alpha=0.15, linewidth=0)
    ax.plot(nodes, np.full(len(nodes), 1.5 * floor), "|", color=colour, markersize=7, alpha=0.4)
    ax.axvline(0, color="0.5", linewidth=0.8, linestyle=":")
    ax.set_ylim(bottom=floor)
    ax.set(xlabel="eigenvalue of the Hessian", ylabel="density")
    if label:
        ax.legend(frameon=False)
    return figure


@_without_numpy_errors
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
    ax.set(xlabel=f"rank ({which})", ylabel="eigenvalue of the Hessian")
    return figure


@_without_numpy_errors
def plot_layers(
    names: Sequence[str],
    values: np.ndarray,
    errors: np.ndarray,
    quantity: str,
    *,
    ax: Axes | None = None,
) -> Figure:
    """One number a layer, the first layer on top.

    Args:
        names: of the layers [L].
        values: [L]; the axis is logarithmic if all are positive.
        errors: standard errors [L], drawn twice as long; zero or NaN draws none.
        quantity: what the numbers are.
        ax: axes to draw into; a new figure by default.
    """
    figure, ax = axes_of(ax, size=(6.4, 1.2 + 0.22 * len(names)))
    rows = np.arange(len(names))
    ax.errorbar(
        values, rows, xerr=2 * np.nan_to_num(errors), fmt="o", color=COLOURS[0], markersize=4,
        capsize=2,
    )  # fmt: skip
    ax.set_yticks(rows, labels=list(names), fontsize=8)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="x", color="0.9")
    if np.all(values[np.isfinite(values)] > 0):
        ax.set_xscale("log")
    ax.set(xlabel=quantity)
    return figure


@_without_numpy_errors
def plot_plane(
    values: np.ndarray,
    coordinates: Sequence[np.ndarray],
    axis_names: Sequence[str],
    *,
    kind: Literal["contour", "surface", "line"] | None = None,
    name: str = "loss",
    cap: float | None = None,
    log: bool | None = None,
    weights: tuple[float, ...] = (0.0, 0.0),
    minimum: tuple[float, ...] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Values on a plane as contours or as a surface, or the cut along its first axis.

    Args:
        values: [n0, n1], or [n0] on a line.
        coordinates: of the points, one array an axis.
        axis_names: labels of the axes.
        kind: "contour", "surface", or "line": the values along the first axis where the second
            coordinate is nearest to 0. "contour" by default, and "line" for values on a line.
        name: of the values.
        cap: highest value shown, which the picture then says. Values that are infinite or NaN are
            drawn at the cap, or at the highest finite value.
        log: logarithmic colours and heights; by default where the values span a factor of 100.
        weights: where the unmodified weights are, marked on contours.
        minimum: where the smallest value is, marked on contours; None marks nothing.
        ax: axes to draw into (3-D ones for a surface); a new figure by default.

    Raises:
        InputError: a cap that is not positive, an unknown kind, a plane drawn from a line, or
            no finite value.
    """
    kind = kind or ("contour" if values.ndim == 2 else "line")
    if kind not in ("contour", "surface", "line"):
        raise InputError(f"kind is {kind!r}: choose 'contour', 'surface' or 'line'")
    if values.ndim == 1 and kind != "line":
        raise InputError(f"a line cannot be drawn as {kind}: give two axes, or kind='line'")
    check_cap(cap)
    shown, notes = _finite_and_capped(values.astype(np.float64), cap)
    log = bool(shown.min() > 0 and shown.max() / shown.min() >= 100) if log is None else log
    if log:
        # matplotlib's logarithmic ticks overflow near the largest numbers of float64
        shown = np.clip(shown, np.finfo(np.float32).tiny, 1e250)
    label = name + (" (logarithmic)" if log else "") + (f", {notes}" if notes else "")
    if kind == "surface":
        heights, name = (np.log10(shown), f"log10 {name}") if log else (shown, name)
        return _surface(heights, coordinates, (*axis_names, name), notes, ax)
    if kind == "contour":
        figure, ax = _contours(shown, coordinates, label, log, ax)
        ax.plot(*weights, "o", color="w", markeredgecolor="k", clip_on=False, label="weights")
        if minimum is not None:
            ax.plot(
                *minimum, "*", color=COLOURS[4], markeredgecolor="k", markersize=12, clip_on=False,
                label="minimum",
            )  # fmt: skip
        legend_above(ax, 2)
        ax.set(xlabel=axis_names[0], ylabel=axis_names[1])
        return figure
    figure, ax = axes_of(ax)
    cut = shown if shown.ndim == 1 else shown[:, int(np.abs(coordinates[1]).argmin())]
    ax.plot(coordinates[0], cut, color=COLOURS[0], marker="." if len(cut) < 60 else None)
    ax.axvline(0, color="0.5", linewidth=0.8, linestyle=":")
    if log:
        ax.set_yscale("log")
    ax.set(xlabel=axis_names[0], ylabel=label)
    return figure


@_without_numpy_errors
def plot_path(
    coordinates: np.ndarray, explained: np.ndarray, *, ax: Axes | None = None, colour: str = "w"
) -> Figure:
    """The path that training took, on its principal axes.

    Args:
        coordinates: of the weights [T, 2].
        explained: shares of the variance [2].
        ax: axes to draw into; a new figure by default.
        colour: of the path.
    """
    figure, ax = axes_of(ax, (5.2, 4.2))
    ax.plot(*coordinates.T, ".-", color=colour, linewidth=1.2, label="path", zorder=3)
    x, y = (f"principal axis {i}, {s:.1%} of the variance" for i, s in enumerate(explained, 1))
    ax.set(xlabel=x, ylabel=y)
    legend_above(ax, 3)
    return figure


def write_png(figure: Figure, path: str | os.PathLike[str], dpi: int = 120) -> None:
    """Write a figure to a PNG file, all of it or nothing; its folder is made if it is missing.

    Args:
        figure: what to draw.
        path: the file.
        dpi: pixels an inch.

    Raises:
        InputError, WriteError: see `lla.files.atomic_open`.
    """
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    atomic_write(path, content.getvalue())


def check_cap(cap: float | None) -> None:
    """Check that a cap is a positive, finite number or None."""
    if cap is not None:
        positive_number("cap", cap)


def _finite_and_capped(values: np.ndarray, cap: float | None) -> tuple[np.ndarray, str]:
    """Values that can be drawn, and what was done to them in words."""
    finite = np.isfinite(values)
    if not finite.any():
        raise InputError("no value of the plane is finite: there is nothing to draw")
    top = values[finite].max()
    notes = []
    if cap is not None and (not finite.all() or top > cap):
        notes.append(f"capped at {cap:.3g}")
        top = min(top, cap)
    if not finite.all():
        notes.append(f"{int((~finite).sum())} points not finite")
    return np.minimum(np.where(finite, values, top), top), ", ".join(notes)


def _contours(
    shown: np.ndarray,
    coordinates: Sequence[np.ndarray],
    label: str,
    log: bool,
    ax: Axes | None,
) -> tuple[Figure, Axes]:
    """Filled contours with lines between them, and a colour bar."""
    from matplotlib import ticker
    from matplotlib.colors import LogNorm

    figure, ax = axes_of(ax, (5.2, 4.2))
    low, high = float(shown.min()), float(shown.max())
    flat = low == high
    norm = LogNorm(low, high) if log and not flat else None
    top = low + max(abs(low), 1.0) * 1e-6 if flat else high
    levels = np.geomspace(low, top, 24) if log else np.linspace(low, top, 24)
    drawn = ax.contourf(*coordinates, shown.T, levels=levels, norm=norm, cmap="viridis")
    ax.contour(*coordinates, shown.T, levels=levels, norm=norm, colors="k", linewidths=0.3)
    if not (log and flat):
        decades = log and high > 1e3 * low  # ticks at powers of ten are enough
        bar = figure.colorbar(drawn, ax=ax, label=label)
        bar.ax.tick_params(labelsize=8)
        bar.locator = ticker.MaxNLocator(6)
        if log:
            bar.locator = ticker.LogLocator(subs=(1,) if decades else (1, 2, 5))
        bar.formatter = ticker.ScalarFormatter(useOffset=False, useMathText=True)
        if decades:
            bar.formatter = ticker.LogFormatterMathtext()
        bar.minorlocator = ticker.NullLocator()
    return figure, ax


def _surface(
    heights: np.ndarray,
    coordinates: Sequence[np.ndarray],
    axis_names: Sequence[str],
    notes: str,
    ax: Axes | None,
) -> Figure:
    """A surface in 3-D, its three axes named."""
    if ax is not None and not hasattr(ax, "plot_surface"):
        raise InputError("a surface needs 3-D axes: add_subplot(projection='3d')")
    figure, drawn = axes_of(ax, (5.6, 4.6), "3d")
    ax3: Any = drawn
    mesh = np.meshgrid(*coordinates, indexing="ij")
    ax3.plot_surface(
        *mesh, heights, cmap="viridis", rcount=41, ccount=41, linewidth=0.2, edgecolor="0.3"
    )
    for axis, name in zip("xyz", axis_names, strict=True):
        getattr(ax3, f"set_{axis}label")(name, fontsize=8)
    ax3.tick_params(labelsize=7)
    ax3.view_init(elev=32, azim=-55)
    ax3.set_box_aspect(None, zoom=0.88)
    if notes:
        ax3.set_title(notes, fontsize=9)
    return figure


def legend_above(ax: Axes, columns: int) -> None:
    """Put the legend above the axes, in some columns."""
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, fontsize=8, frameon=False)
