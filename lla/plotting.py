"""Pictures of results. Figures are made without pyplot, so no global state is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from lla.hessian.eigenpairs import Eigenpairs
    from lla.hessian.spectrum import Spectrum

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
    floor: float = 1e-6,
    colour: str = COLOURS[0],
    label: str | None = None,
) -> Figure:
    """The density of a Hessian spectrum on a logarithmic axis, its nodes as ticks below.

    Args:
        spectrum: what to draw.
        ax: axes to draw into; a new figure by default.
        sigma: broadening, see `Spectrum.density`.
        floor: densities below this are cut off.
        colour: of the curve.
        label: of the curve in the legend.
    """
    figure, ax = axes_of(ax)
    grid = spectrum.grid()
    density = spectrum.density(grid, sigma)
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
