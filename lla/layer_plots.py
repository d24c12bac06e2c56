"""Pictures of what is known of single layers; see `lla.plotting`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lla.plotting import COLOURS, axes_of, whole_ticks, without_numpy_errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@without_numpy_errors
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


def plot_overlaps(
    names: Sequence[str],
    curves: np.ndarray,
    baselines: np.ndarray,
    *,
    ax: Axes | None = None,
) -> Figure:
    """The overlap of two spaces by their dimension, one curve a layer.

    Args:
        names: of the layers [L].
        curves: overlaps [L, k].
        baselines: those of random spaces [L, k], drawn dotted.
        ax: axes to draw into; a new figure by default.
    """
    figure, ax = axes_of(ax)
    order = np.arange(1, curves.shape[1] + 1)
    for i, (name, curve, baseline) in enumerate(zip(names, curves, baselines, strict=True)):
        colour = COLOURS[i % len(COLOURS)]
        style = ("o-", "s--", "^-.")[i // len(COLOURS) % 3]
        ax.plot(order, curve, style, color=colour, markersize=4, linewidth=1.2, label=name)
        ax.plot(order, baseline, ":", color=colour, linewidth=1.0)
    ax.plot([], [], ":", color="0.4", label="random spaces")
    ax.set_ylim(0, 1.02)
    ax.set_xlim(0.5, order[-1] + 0.5)
    whole_ticks(ax)
    ax.grid(color="0.92")
    ax.set(xlabel="dimension k of the spaces", ylabel="overlap")
    ax.legend(
        title="layer", loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8, frameon=False,
        ncols=1 + len(names) // 16,
    )  # fmt: skip
    return figure


def plot_matrix(matrix: np.ndarray, title: str, *, ax: Axes | None = None) -> Figure:
    """An eigenvector of a layer as a matrix [F, d], in colours that are white at zero.

    Args:
        matrix: outputs by inputs.
        title: above the picture.
        ax: axes to draw into; a new figure by default.
    """
    figure, ax = axes_of(ax, (6.4, 3.2))
    top = float(np.abs(matrix).max()) or 1.0
    drawn = ax.imshow(
        matrix, cmap="RdBu_r", vmin=-top, vmax=top, aspect="auto", interpolation="nearest"
    )
    figure.colorbar(drawn, ax=ax, label="element of the eigenvector").ax.tick_params(labelsize=8)
    ax.set_title(title, fontsize=10)
    ax.set(xlabel="input", ylabel="output")
    return figure


def plot_two_spectra(
    exact: np.ndarray, approximate: np.ndarray, names: tuple[str, str], *, ax: Axes | None = None
) -> Figure:
    """The largest eigenvalues of a matrix beside those of its approximation.

    Args:
        exact: eigenvalues [k], the largest first.
        approximate: those of the approximation [k].
        names: of both, for the legend.
        ax: axes to draw into; a new figure by default.
    """
    figure, ax = axes_of(ax)
    order = np.arange(1, len(exact) + 1)
    marks = (("o-", COLOURS[0]), ("s--", COLOURS[1]))
    for values, name, (style, colour) in zip((exact, approximate), names, marks, strict=True):
        ax.plot(order, values, style, color=colour, markersize=5, linewidth=1.0, label=name)
    if min(exact.min(), approximate.min()) > 0:
        ax.set_yscale("log")
    whole_ticks(ax)
    ax.grid(color="0.92")
    ax.set(xlabel="rank", ylabel="eigenvalue")
    ax.legend(frameon=False)
    return figure
