"""Figures: what falls along walks, walks on the plane through them, and weighted sums."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lla import plane_plots, plotting
from lla.level_sets.plots import plot_paths
from paper_tables.engine import store
from paper_tables.engine.exhibit import Drawing, Records
from paper_tables.engine.records import Record
from paper_tables.evidence.selection import grouped
from paper_tables.exhibits.level_sets.cells import PATHS, TABLE
from paper_tables.exhibits.level_sets.comparison import COMPARED
from paper_tables.exhibits.level_sets.walks import LONGER, Curves, Together
from paper_tables.paper.names import display

NAMES = {"l2": "||theta||^2", "jacobian": "||dz/dx||^2", "free exploration": "free exploration"}


def figures(records: Records) -> list[Drawing]:
    """Three figures a family."""
    found = []
    mine = [r for r in records if r.table == TABLE and r.artifact is not None]
    for row, used in grouped(mine, lambda r: r.row).items():
        found.append(_drawing("curves", row, used, draw_curves, "Test loss and regularizers along "
                              "walks at constant training loss on {}"))  # fmt: skip
        compared = [r for r in used if r.column == COMPARED[0]]
        if compared:
            alt = "Training loss and ||theta||^2: walks and minima of weighted sums on {}"
            found.append(_drawing("pareto", row, compared, draw_pareto, alt))
    paths = [r for r in records if r.table == PATHS and r.artifact is not None]
    found += [
        _drawing("paths", r.row, [r], draw_paths, "Walks from one network on {} and the training "
                 "loss on the plane through them")
        for r in paths
    ]  # fmt: skip
    return found


def _drawing(
    kind: str, row: str, used: list[Record], draw: Callable[..., Figure], alt: str
) -> Drawing:
    place = row.replace(", ", "_").replace(" ", "_")
    return Drawing(
        name=f"levelset_{kind}_{place}", kind="figures", alt=alt.format(display(row)),
        records=tuple(used), draw=functools.partial(draw, used),
    )  # fmt: skip


def draw_curves(used: list[Record], folder: Path) -> Figure:
    """Draw test loss, ||theta||^2 and Jacobian by step, relative to the start; a line a network."""
    figure = Figure(figsize=(11.5, 4.2), dpi=100, layout="constrained")
    panels: list[Axes] = list(figure.subplots(1, 3))
    names = (("test_loss", "test loss"), ("l2", "||theta||^2"), ("jacobian", "||dz/dx||^2"))
    for i, record in enumerate(used):
        curves = Curves.load(store.artifact(record, folder))
        style = "--" if record.column == LONGER else "-"
        for ax, (name, title) in zip(panels, names, strict=True):
            for k, values in enumerate(curves.each(name)):
                ax.plot(
                    values / values[0], style, color=plotting.COLOURS[i % len(plotting.COLOURS)],
                    linewidth=1.0, alpha=0.8, zorder=2 if record.column == LONGER else 3,
                    label=None if k else record.column,
                )  # fmt: skip
            ax.set(xlabel="step", title=f"{title} / start")
    for ax in panels:
        ax.axhline(1, color="0.5", linewidth=0.8, linestyle=":")
        ax.grid(color="0.92")
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("{x:g}")
    panels[2].yaxis.set_minor_formatter("")
    low, high = _extent([line.get_ydata() for line in panels[0].lines if line.get_label() != ""])
    panels[0].set_ylim(low * 0.95, min(high * 1.05, 2.0))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def _extent(values: list[object]) -> tuple[float, float]:
    every = np.concatenate([np.asarray(each, dtype=float) for each in values])
    return float(every.min()), float(every.max())


def draw_pareto(used: list[Record], folder: Path) -> Figure:
    """Draw ||theta||^2 against the training loss: each network's walk, and its weighted sums."""
    (record,) = used[:1]
    curves = Curves.load(store.artifact(record, folder))
    level = record.config["level"]
    figure = Figure(figsize=(5.6, 4.2), dpi=100, layout="constrained")
    ax = figure.subplots()
    for k, (R, points) in enumerate(zip(curves.each("regularizer"), curves.weighted, strict=True)):
        colour = plotting.COLOURS[k % len(plotting.COLOURS)]
        order = points[:, 0].argsort()
        ax.plot(*points[order].T, "o--", color=colour, markersize=4, linewidth=1.0,
                label="minima of L + lambda R" if k == 0 else None)  # fmt: skip
        ax.plot([level] * len(R), R, "-", color=colour, linewidth=1.0,
                label="walk" if k == 0 else None)  # fmt: skip
        ax.plot(level, R[0], "o", color="k", markersize=5, label=None if k else "start")
        ax.plot(level, R[-1], "x", color=colour, markersize=9, markeredgewidth=2,
                label=None if k else "end")  # fmt: skip
    ax.set(xscale="log", xlabel="training loss", ylabel="||theta||^2")
    ax.grid(color="0.92", which="both")
    ax.legend(frameon=False, fontsize=8)
    return figure


def draw_paths(used: list[Record], folder: Path) -> Figure:
    """Draw the walks from one network over the training loss on the plane through them."""
    (record,) = used
    found = Together.load(store.artifact(record, folder))
    figure = plane_plots.plot_plane(
        found.loss, (found.a, found.b), ("", ""), kind="contour", log=True, name="training loss"
    )
    ax = figure.axes[0]
    for line in list(ax.lines):  # the origin is the end of a walk, and marked as such
        line.remove()
    ax.contour(found.a, found.b, found.loss.T, levels=[record.config["level"]], colors="w",
               linewidths=1.4)  # fmt: skip
    each = {NAMES.get(name, name): [path] for name, path in found.each().items()}
    plot_paths(each, found.explained, ax=ax, colours=plotting.COLOURS[1:])
    return figure
