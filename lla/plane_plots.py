"""Pictures of loss planes and of paths on them; see `lla.plotting`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lla.errors import InputError
from lla.plotting import COLOURS, axes_of, check_cap, legend_above, without_numpy_errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure

Scale = Literal["linear", "logarithmic", "above"]

_LEVELS = 24  # of contours
_LEAST = 1e-3  # share of the height at which levels above the smallest value begin to spread


@without_numpy_errors
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
    other: float | None = None,
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
            Where they do not, but most of the contours' area would have one colour, the levels
            are logarithmic above the smallest value; False keeps them equally far apart.
        weights: where the unmodified weights are, marked on contours.
        minimum: where the smallest value is, marked on contours; None marks nothing.
        other: where on a line other weights are; None marks nothing.
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
    above = log is None and _one_colour(shown)  # the smallest value
    log = bool(shown.min() > 0 and shown.max() / shown.min() >= 100) if log is None else log
    if log:
        # matplotlib's logarithmic ticks overflow near the largest numbers of float64
        shown = np.clip(shown, np.finfo(np.float32).tiny, 1e250)
    label = name + (" (logarithmic)" if log else "") + (f", {notes}" if notes else "")
    if kind == "surface":
        heights, name = (np.log10(shown), f"log10 {name}") if log else (shown, name)
        return _surface(heights, coordinates, (*axis_names, name), notes, ax)
    if kind == "contour":
        scale: Scale = "logarithmic" if log else "above" if above else "linear"
        figure, ax = _contours(shown, coordinates, label, scale, ax)
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
    for place in (0.0,) if other is None else (0.0, other):
        ax.axvline(place, color="0.5", linewidth=0.8, linestyle=":")
    if log:
        ax.set_yscale("log")
    ax.set(xlabel=axis_names[0], ylabel=label)
    return figure


@without_numpy_errors
def plot_path(
    coordinates: np.ndarray, explained: np.ndarray, *, ax: Axes | None = None, below: bool = False
) -> Figure:
    """The path that training took, on its principal axes, with arrows in the direction of time.

    Args:
        coordinates: of the weights [T, 2].
        explained: shares of the variance [2].
        ax: axes to draw into; a new figure by default.
        below: whether a plane has been drawn there, whose centre is the end of the path.
    """
    from matplotlib import patheffects

    figure, ax = axes_of(ax, (5.2, 4.2))
    colour = "w" if below else COLOURS[0]
    # white can be read on every colour of a plane, and with its rim also on white paper
    rim = [patheffects.Stroke(linewidth=3.0, foreground="k"), patheffects.Normal()]
    ax.plot(
        *coordinates.T, "-", color=colour, linewidth=1.4, marker=".", label="path", zorder=3,
        path_effects=rim if below else None,
    )  # fmt: skip
    _arrows(coordinates, ax)
    marks: dict[str, Any] = {"zorder": 5, "clip_on": False, "markersize": 9, "markeredgecolor": "k"}
    ax.plot(*coordinates[0], "s", color=COLOURS[2], label="start", **marks)
    ax.plot(*coordinates[-1], "D", color=COLOURS[1], label="end", **marks)
    x, y = (f"principal axis {i}, {s:.1%} of the variance" for i, s in enumerate(explained, 1))
    ax.set(xlabel=x, ylabel=y)
    legend_above(ax, 4)
    return figure


def _arrows(coordinates: np.ndarray, ax: Axes, count: int = 4) -> None:
    """Draw arrow heads along a path, at equal shares of its length on the paper."""
    spans = np.ptp(coordinates, axis=0)
    paper = coordinates / np.where(spans > 0, spans, 1.0)
    lengths = np.linalg.norm(np.diff(paper, axis=0), axis=1)
    ends = lengths.cumsum()
    for share in (np.arange(count) + 0.5) / count:
        i = min(int(np.searchsorted(ends, share * ends[-1])), len(lengths) - 1)
        begin, step = coordinates[i], coordinates[i + 1] - coordinates[i]
        arrow = {"arrowstyle": "-|>", "color": "k", "linewidth": 0, "mutation_scale": 20}
        ax.annotate(
            "", begin + 0.6 * step, begin + 0.4 * step, arrowprops=arrow, zorder=4,
            annotation_clip=False,
        )  # fmt: skip


def _one_colour(values: np.ndarray) -> bool:
    """Whether more than half of the values lie between the lowest two of equally spaced levels."""
    low, high = float(values.min()), float(values.max())
    return bool((values <= low + (high - low) / (_LEVELS - 1)).mean() > 0.5)


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
    scale: Scale,
    ax: Axes | None,
) -> tuple[Figure, Axes]:
    """Filled contours with lines between them, and a colour bar."""
    from matplotlib.colors import FuncNorm, LogNorm, Normalize

    figure, ax = axes_of(ax, (5.2, 4.2))
    low, high = float(shown.min()), float(shown.max())
    flat = low == high
    top = low + max(abs(low), 1.0) * 1e-6 if flat else high
    norm: Normalize | None = None
    levels = np.linspace(low, top, _LEVELS)
    if scale == "logarithmic":
        norm = None if flat else LogNorm(low, high)
        levels = np.geomspace(low, top, _LEVELS)
    elif scale == "above" and not flat:
        unit = (high - low) * _LEAST
        functions = (
            lambda v: np.log1p(np.maximum(v - low, 0.0) / unit),
            lambda u: low + unit * np.expm1(u),
        )
        norm = FuncNorm(functions, low, high)
        levels = norm.inverse(np.linspace(0, 1, _LEVELS))
        label += ", levels logarithmic above the smallest"
    drawn = ax.contourf(*coordinates, shown.T, levels=levels, norm=norm, cmap="viridis")
    ax.contour(*coordinates, shown.T, levels=levels, norm=norm, colors="k", linewidths=0.3)
    _few_ticks(ax, "auto")
    if not (scale == "logarithmic" and flat):
        _colour_bar(ax.figure.colorbar(drawn, ax=ax, label=label), levels, scale)
    return figure, ax


def _colour_bar(bar: Colorbar, levels: np.ndarray, scale: Scale) -> None:
    """Set the ticks of a colour bar: few, and with short labels."""
    from matplotlib import ticker

    bar.ax.tick_params(labelsize=8)
    bar.locator = ticker.MaxNLocator(6)
    bar.formatter = ticker.ScalarFormatter(useOffset=False, useMathText=True)
    if scale == "above":
        bar.locator = ticker.FixedLocator(levels[:: len(levels) // 5].tolist())
        bar.formatter = ticker.FormatStrFormatter("%.3g")
    elif scale == "logarithmic":
        decades = levels[-1] > 1e3 * levels[0]  # ticks at powers of ten are enough
        bar.locator = ticker.LogLocator(subs=(1,) if decades else (1, 2, 5))
        if decades:
            bar.formatter = ticker.LogFormatterMathtext()
    bar.minorlocator = ticker.NullLocator()


def _few_ticks(ax: Any, most: int | Literal["auto"]) -> None:
    """Set ticks along x and y that are few and have short labels, so that these do not touch."""
    from matplotlib.ticker import MaxNLocator

    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=most, steps=[1, 2, 5, 10]))


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
    _few_ticks(ax3, 6)
    ax3.view_init(elev=32, azim=-55)
    ax3.set_box_aspect(None, zoom=0.88)
    if notes:
        ax3.set_title(notes, fontsize=9)
    return figure
