"""Pictures of results. Figures are made without pyplot, so no global state is touched."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lla.errors import InputError

if TYPE_CHECKING:
    from lla.hessian.eigenpairs import Eigenpairs
    from lla.hessian.spectrum import Spectrum
    from lla.landscape.path import Path
    from lla.landscape.plane import Plane

# Okabe and Ito's colours, told apart by readers with any kind of colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def axes_of(ax: Axes | None, size: tuple[float, float] = (6.4, 4.0)) -> tuple[Figure, Axes]:
    """The given axes and their figure, or new ones."""
    if ax is not None:
        return cast(Figure, ax.figure), ax
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.add_subplot()


def plot_spectrum(
    spectrum: Spectrum,
    ax: Axes | None = None,
    *,
    sigma: float | None = None,
    floor: float | None = None,
    colour: str = COLOURS[0],
    label: str | None = None,
) -> Figure:
    """The density of a Hessian spectrum on a logarithmic axis, its nodes as ticks below.

    Args:
        spectrum: what to draw.
        ax: axes to draw into; a new figure by default.
        sigma: broadening, see `Spectrum.density`.
        floor: densities below this are cut off; `Spectrum.floor` by default, so that outliers are
            seen.
        colour: of the curve.
        label: of the curve in the legend.
    """
    figure, ax = axes_of(ax)
    grid = spectrum.grid()
    density = spectrum.density(grid, sigma)
    floor = spectrum.floor(grid, sigma) if floor is None else floor
    ax.semilogy(grid, np.maximum(density, floor), color=colour, linewidth=1.2, label=label)
    ax.fill_between(grid, floor, np.maximum(density, floor), color=colour, alpha=0.15, linewidth=0)
    real = np.arange(spectrum.steps) < spectrum.counts[:, None]
    nodes = spectrum.eigenvalues[real]
    ax.plot(nodes, np.full(len(nodes), 1.5 * floor), "|", color=colour, markersize=7, alpha=0.4)
    ax.axvline(0, color="0.5", linewidth=0.8, linestyle=":")
    ax.set_ylim(bottom=floor)
    ax.set_xlabel("eigenvalue of the Hessian")
    ax.set_ylabel("density")
    if label:
        ax.legend(frameon=False)
    return figure


def plot_eigenpairs(pairs: Eigenpairs, ax: Axes | None = None) -> Figure:
    """Eigenvalues in order of extremity, residuals as error bars."""
    figure, ax = axes_of(ax)
    order = np.arange(1, len(pairs.values) + 1)
    ax.errorbar(order, pairs.values, yerr=pairs.residuals, fmt="o", color=COLOURS[0], capsize=3)
    ax.axhline(0, color="0.5", linewidth=0.8, linestyle=":")
    ax.set_xlabel(f"rank ({pairs.which})")
    ax.set_ylabel("eigenvalue of the Hessian")
    return figure


def plot_plane(
    plane: Plane,
    kind: Literal["contour", "surface", "line"] | None = None,
    *,
    cap: float | None = None,
    log: bool | None = None,
    scalar: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """A loss plane as contours or as a surface, or the cut along its first axis.

    Args:
        plane: what to draw.
        kind: "contour" with the smallest loss marked, "surface", or "line": the loss along the
            first direction through the centre. By default "contour", and "line" for a line.
        cap: highest value shown, said in the picture; the values themselves stay. Values that are
            infinite or NaN are shown at the cap, or above the highest finite value.
        log: logarithmic colours and heights; by default where the values span a factor of 100.
        scalar: draw this scalar of the plane instead of the loss.
        ax: axes to draw into (3-D ones for a surface); a new figure by default.

    Raises:
        InputError: a cap that is not positive, an unknown kind, a plane drawn from a line, or
            nothing finite to draw.
    """
    kind = kind or ("contour" if plane.loss.ndim == 2 else "line")
    if kind not in ("contour", "surface", "line"):
        raise InputError(f"kind is {kind!r}: choose 'contour', 'surface' or 'line'")
    if plane.loss.ndim == 1 and kind != "line":
        raise InputError(f"a line cannot be drawn as {kind}: give two axes, or kind='line'")
    check_cap(cap)
    name = scalar or "loss"
    values = plane.loss if scalar is None else plane.scalar(scalar)
    shown, notes = _shown(values.astype(np.float64), cap)
    log = _spans_decades(shown) if log is None else log
    if log:
        shown = np.maximum(shown, np.finfo(np.float32).tiny)
    norm = LogNorm(shown.min(), shown.max()) if log and np.ptp(shown) > 0 else None
    label = name + (" (logarithmic)" if log else "") + (f", {notes}" if notes else "")
    if kind == "surface":
        figure, ax3 = _axes_3d(ax)
        _surface(plane, shown, ax3, log, name, notes)
        return figure
    figure, ax = axes_of(ax, (5.2, 4.2) if kind == "contour" else (6.4, 4.0))
    if kind == "contour":
        drawn = ax.contourf(
            plane.a, plane.b, shown.T, levels=_levels(shown, log), norm=norm, cmap="viridis"
        )
        ax.contour(
            plane.a, plane.b, shown.T, levels=drawn.levels, norm=norm, colors="k", linewidths=0.3
        )
        if not log or np.ptp(shown) > 0:
            bar = figure.colorbar(drawn, ax=ax, label=label)
            bar.ax.tick_params(labelsize=8)
            bar.set_ticks(_ticks(float(shown.min()), float(shown.max()), log))
            bar.ax.minorticks_off()
            bar.ax.yaxis.set_major_formatter(_short)
        ax.plot(
            *_center(plane), "o", color="w", markeredgecolor="k", clip_on=False, label="weights"
        )
        star: dict[str, Any] = {
            "color": COLOURS[4],
            "markeredgecolor": "k",
            "markersize": 12,
            "clip_on": False,
        }
        if scalar is None:  # of the values themselves: where they are capped all are the same
            ax.plot(*plane.minimum, "*", label="minimum", **star)
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8, frameon=False)
        ax.set_xlabel(f"{_axis_name(plane, 0)}")
        ax.set_ylabel(f"{_axis_name(plane, 1)}")
        return figure
    cut = shown if shown.ndim == 1 else shown[:, int(np.abs(plane.b).argmin())]
    ax.plot(plane.a, cut, color=COLOURS[0], marker="." if len(cut) < 60 else None)
    ax.axvline(0, color="0.5", linewidth=0.8, linestyle=":")
    if log:
        ax.set_yscale("log")
    ax.set_xlabel(_axis_name(plane, 0))
    ax.set_ylabel(label)
    return figure


def plot_path(path: Path, plane: Plane | None = None, *, ax: Axes | None = None) -> Figure:
    """The way that training took, on its principal axes.

    Args:
        path: what to draw.
        plane: the loss on the plane of `path.directions` around the last weights; drawn below.
        ax: axes to draw into; a new figure by default.
    """
    if plane is None:
        figure, ax = axes_of(ax, (5.2, 4.2))
        colour = COLOURS[0]
    else:
        figure = plane.plot("contour", ax=ax)
        ax, colour = (figure.axes[0] if ax is None else ax), "w"
    ax.plot(*path.coordinates.T, ".-", color=colour, linewidth=1.2, label="path", zorder=3)
    for i, name in enumerate(("x", "y")):
        share = f"principal axis {i + 1}, {path.explained[i]:.1%} of the variance"
        getattr(ax, f"set_{name}label")(share)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8, frameon=False)
    return figure


def check_cap(cap: float | None) -> None:
    """Raise unless a cap is positive or None."""
    if cap is not None and not cap > 0:
        raise InputError(f"cap is {cap}: give a positive value, or None")


def _shown(values: np.ndarray, cap: float | None) -> tuple[np.ndarray, str]:
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


def _spans_decades(values: np.ndarray) -> bool:
    return bool(values.min() > 0 and values.max() / values.min() >= 100)


def _levels(values: np.ndarray, log: bool, count: int = 24) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    if low == high:
        high = low + max(abs(low), 1.0) * 1e-6
    return np.geomspace(low, high, count) if log else np.linspace(low, high, count)


def _ticks(low: float, high: float, log: bool) -> list[float]:
    """At most eight round values from low to high, powers of ten where there are some."""
    if not log:
        return [t for t in MaxNLocator(6).tick_values(low, high) if low <= t <= high]
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(powers) <= 3 else (1, 3) if len(powers) <= 4 else (1,)
    ticks = [float(f"{step}e{power}") for power in powers for step in steps]
    inside = [tick for tick in ticks if low <= tick <= high]
    return inside[:: -(-len(inside) // 8)] if inside else [low]


def _short(value: float, _: object = None) -> str:
    r"""A number in few characters.

    >>> _short(0.25), _short(1e14), _short(3e-5)
    ('0.25', '$10^{14}$', '$3 \\cdot 10^{-5}$')
    """
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:g}"
    digits, power = f"{value:e}".split("e")
    factor = "" if float(digits) == 1 else f"{float(digits):g} \\cdot "
    return f"${factor}10^{{{int(power)}}}$"


def _center(plane: Plane) -> tuple[float, float]:
    """Where the unmodified weights are; for Adam's equation all along a = 0."""
    return 0.0, (1.0 if plane.update == "adameq" else 0.0)


def _axis_name(plane: Plane, index: int) -> str:
    if plane.update == "adameq":
        return ("a, numerator", "b, under the root")[index]
    return f"{('a', 'b')[index]}, in units of direction {index + 1}"


def _axes_3d(ax: Axes | None) -> tuple[Figure, Any]:
    if ax is not None:
        if not hasattr(ax, "plot_surface"):
            raise InputError("a surface needs 3-D axes: add_subplot(projection='3d')")
        return cast(Figure, ax.figure), ax
    figure = Figure(figsize=(5.6, 4.6), layout="constrained")
    return figure, figure.add_subplot(projection="3d")


def _surface(plane: Plane, shown: np.ndarray, ax: Any, log: bool, name: str, notes: str) -> None:
    heights = np.log10(shown) if log else shown
    mesh = np.meshgrid(plane.a, plane.b, indexing="ij")
    ax.plot_surface(
        *mesh, heights, cmap="viridis", rcount=41, ccount=41, linewidth=0.2, edgecolor="0.3"
    )
    ax.set_xlabel(_axis_name(plane, 0), fontsize=8)
    ax.set_ylabel(_axis_name(plane, 1), fontsize=8)
    ax.set_zlabel(f"log10 {name}" if log else name, fontsize=8)
    ax.tick_params(labelsize=7)
    ax.view_init(elev=32, azim=-55)
    ax.set_box_aspect(None, zoom=0.88)
    if notes:
        ax.set_title(notes, fontsize=9)
