"""Figures: decision regions, radii, cuts, ellipsoids, the minefield, index against accuracy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lla import plotting
from lla.minima.plots import plot_radii
from paper_tables.engine import store
from paper_tables.engine.exhibit import Drawing, Records
from paper_tables.engine.records import Record
from paper_tables.evidence.criteria import value_of
from paper_tables.evidence.selection import by_cell
from paper_tables.exhibits.minima import ellipsoids, minefield
from paper_tables.exhibits.minima.cells import CUTOFF
from paper_tables.exhibits.minima.groups import Group, groups
from paper_tables.exhibits.minima.measured import INDEX, Picture
from paper_tables.exhibits.minima.tasks import CIRCLES, GOOD, ROLL
from paper_tables.paper.names import display

MOST_LOSS = 1.0  # of the cuts


def figures(records: Records) -> list[Drawing]:
    """Figures of each task, of ellipsoids and of the minefield, where they were measured."""
    found = []
    for row, mine in groups(records).items():
        shown = [group for group in mine if group.reached]
        if len(shown) < 2:
            continue
        name, file = display(row), row.replace("-", "_")
        kinds: dict[str, tuple[Callable[[list[Group], Path], Figure], str]] = {
            "radii": (draw_radii, f"Histograms of radii of good and bad minima of {name}"),
            "cuts": (draw_cuts, f"Loss along random directions of good and bad minima of {name}"),
        }
        if row in (ROLL, CIRCLES):
            kinds["regions"] = (
                draw_regions, f"Decision regions of a good and a bad minimum of {name}"
            )  # fmt: skip
        if len(shown) > 2:
            kinds["order"] = (draw_order, f"Radial index against test accuracy on {name}")
        found += [
            Drawing(
                f"minima_{kind}_{file}", "figures", alt, _records(shown, kind),
                functools.partial(draw, shown),
            )
            for kind, (draw, alt) in kinds.items()
        ]  # fmt: skip
    return [*found, *_ellipsoids(records), *_minefield(records)]


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def _records(shown: Sequence[Group], kind: str) -> tuple[Record, ...]:
    names = (INDEX, "test_accuracy") if kind == "order" else ("mean_radius", "test_accuracy")
    cells = [m for g in shown for m in (g.reached if kind == "order" else g.reached[:1])]
    return tuple(metrics[name] for metrics in cells for name in names)


def _picture(group: Group, folder: Path) -> Picture:
    """Of the first network of a group."""
    return Picture.load(store.artifact(group.reached[0]["mean_radius"], folder))


def _test(group: Group) -> str:
    return f"{group.variant}: test {value_of(group.reached[0]['test_accuracy']):.0f} %"


def _head(shown: Sequence[Group]) -> str:
    return f"{display(shown[0].row)} [{shown[0].fidelity}]"


def draw_radii(shown: list[Group], folder: Path) -> Figure:
    """Draw histograms of radii, one a way to train."""
    figure = _figure(7.2, 4.0)
    ax = figure.subplots()
    minima = {}
    for group in shown:
        picture = _picture(group, folder)
        minima[_test(group)] = (picture.radii, picture.reached)
    plot_radii(minima, ax=ax)
    ax.set_title(f"Radii at a training loss of {CUTOFF:g}, {_head(shown)}", fontsize=10)
    return figure


def draw_cuts(shown: list[Group], folder: Path) -> Figure:
    """Draw the loss along some random directions, a panel a way to train."""
    figure = _figure(3.2 * len(shown), 3.4)
    panels = np.atleast_1d(figure.subplots(1, len(shown), sharey=True))
    for ax, group in zip(panels, shown, strict=True):
        picture = _picture(group, folder)
        for i, cut in enumerate(picture.cuts):
            ax.plot(picture.at, np.clip(cut, None, MOST_LOSS), color=plotting.COLOURS[i], lw=1)
        ax.axhline(CUTOFF, color="0.4", ls=":", lw=1)
        ax.set_title(_test(group), fontsize=9)
        ax.set_xlabel("c, in units of the filters")
        ax.grid(alpha=0.3)
    panels[0].set_ylabel("training loss, capped at 1")
    panels[0].set_ylim(0, 1.02 * MOST_LOSS)
    figure.suptitle(f"Loss along {len(picture.cuts)} random directions, {_head(shown)}; dotted: "
                    "the cutoff", fontsize=10)  # fmt: skip
    return figure


def draw_regions(shown: list[Group], folder: Path) -> Figure:
    """Draw the decision regions of the natural minimum and of the worst one side by side."""
    figure = _figure(9.0, 4.5)
    chosen = (shown[0], shown[-1])
    for ax, group in zip(figure.subplots(1, 2), chosen, strict=True):
        picture = _picture(group, folder)
        if picture.extent.size:
            shares = picture.regions.T.astype(float)
            ax.imshow(shares, origin="lower", extent=tuple(picture.extent), cmap="RdBu_r",
                      vmin=0, vmax=1, alpha=0.6, interpolation="nearest")  # fmt: skip
            for kind, colour, mark in (
                (0, plotting.COLOURS[0], "o"),
                (1, plotting.COLOURS[1], "^"),
            ):
                x = picture.points[picture.points[:, 2] == kind]
                ax.plot(x[:, 0], x[:, 1], mark, color=colour, ms=3.5, mec="k", mew=0.4,
                        label=f"class {kind}")  # fmt: skip
        ax.set_title(_test(group), fontsize=10)
        ax.set_aspect("equal")
    ax.legend(fontsize=8, loc="upper right")
    figure.suptitle(
        f"Training data and decision regions of two networks that answer all of it rightly, "
        f"{_head(shown)}",
        fontsize=10,
    )
    return figure


def draw_order(shown: list[Group], _: Path | None = None) -> Figure:
    """Draw the radial index against the test accuracy, a point a network."""
    figure = _figure(6.4, 4.2)
    ax = figure.subplots()
    for i, group in enumerate(shown):
        ax.plot(group.values("test_accuracy"), group.values(INDEX), "os^Dv"[i % 5],
                color=plotting.COLOURS[i % 7], label=group.variant)  # fmt: skip
    ax.set(xlabel="test accuracy (%)", ylabel="log10 radial index (no volume)")
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)
    ax.set_title(f"Every minimum that was found, {_head(shown)}", fontsize=10)
    return figure


def _ellipsoids(records: Records) -> list[Drawing]:
    cells = by_cell(records, ellipsoids.TABLE)
    used = tuple(r for found in cells.values() for r in found.values())
    alt = "By how many orders of magnitude the radial index of ellipsoids is too small"
    draw = functools.partial(draw_ellipsoids, used)
    return [Drawing("minima_ellipsoids", "figures", alt, used, draw)] if used else []


def draw_ellipsoids(used: Sequence[Record], _: Path | None = None) -> Figure:
    """Draw by how much the index is too small against the dimension, a line a spread."""
    figure = _figure(6.8, 4.2)
    ax = figure.subplots()
    for i, spread in enumerate(ellipsoids.SPREADS):
        for count, style in zip(ellipsoids.DIRECTIONS, ("o-", "s--"), strict=True):
            name = ellipsoids.shortfall(spread, count)
            mine = sorted((r for r in used if r.metric == name), key=lambda r: r.config["n"])
            ax.errorbar(
                [r.config["n"] for r in mine], [value_of(r) for r in mine],
                yerr=[2 * (r.stderr or 0.0) for r in mine], fmt=style, color=plotting.COLOURS[i],
                ms=4, lw=1, label=name,
            )  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("symlog", linthresh=1)
    ax.set(xlabel="dimensions n", ylabel="orders of magnitude too small")
    ax.grid(alpha=0.3)
    ax.set_ylim(bottom=-0.5)
    ax.legend(fontsize=8, loc="lower right")
    ax.set_title("Radial index of ellipsoids of known volume; spread: sd of log10 of eigenvalues",
                 fontsize=9)  # fmt: skip
    return figure


def _minefield(records: Records) -> list[Drawing]:
    cells = by_cell(records, minefield.TABLE)
    first = minefield.METRICS[0]
    used = [found[first] for found in cells.values() if first in found and found[first].artifact]
    alt = "Weights of good runs and of poisoned ones from their checkpoints, by PCA and t-SNE"
    return [
        Drawing("minima_minefield", "figures", alt, (record,),
                functools.partial(draw_minefield, record))
        for record in used[:1]
    ]  # fmt: skip


def draw_minefield(record: Record, folder: Path) -> Figure:
    """Draw the weights of all runs in the plane of t-SNE."""
    field = minefield.Field.load(store.artifact(record, folder))
    figure = _figure(7.4, 5.6)
    ax = figure.subplots()
    for run in np.unique(field.run):
        for start in np.unique(field.start):
            mine = (field.run == run) & (field.start == start)
            good = start < 0
            ax.plot(*field.at[mine].T, "-", color=plotting.COLOURS[2] if good else "0.7", lw=0.8,
                    zorder=1)  # fmt: skip
    bad = field.start >= 0
    look: dict[str, Any] = {"cmap": "magma", "vmin": 0, "vmax": 100}
    points = ax.scatter(
        field.at[bad, 0], field.at[bad, 1], c=field.test[bad], s=18, marker="v", zorder=2,
        label="poisoned", **look,
    )  # fmt: skip
    ax.scatter(
        field.at[~bad, 0], field.at[~bad, 1], c=field.test[~bad], s=26, zorder=3, label=GOOD,
        edgecolors=plotting.COLOURS[2], **look,
    )  # fmt: skip
    figure.colorbar(points, ax=ax, label="test accuracy (%)")
    ax.set(xticks=[], yticks=[], xlabel="t-SNE of the weights, after PCA", ylabel="")
    ax.legend(fontsize=8)
    ax.set_title(
        f"Weights of {len(np.unique(field.run))} good runs on {display(record.row)} and of "
        f"poisoned runs that start from them [{record.fidelity}]",
        fontsize=9,
    )
    return figure
