"""Figures: overlap by dimension, eigenvectors as matrices, eigenvalues true and approximate."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lla import plotting
from paper_tables.engine import store
from paper_tables.engine.exhibit import Drawing, Records
from paper_tables.engine.fidelity import rank
from paper_tables.engine.records import Record
from paper_tables.evidence.selection import grouped
from paper_tables.exhibits.layerwise import mlps
from paper_tables.exhibits.layerwise.measured import Curves
from paper_tables.exhibits.layerwise.names import network_name

PANELS = 6  # layers in a figure of eigenvalues, at equal distances
DRAWN = (mlps.RAW, mlps.CENTRED)  # of the eigenvectors


def figures(records: Records) -> list[Drawing]:
    """Three figures a family of MLPs, and the eigenvalues of every other network."""
    found = []
    for row, mine in _by_row(records).items():
        first = next(iter(mine.values()))
        name = network_name(row)
        kinds = {"eigenvalues": ([first], draw_eigenvalues, "Eigenvalues of layers of {}, true and "
                                 "of the Kronecker approximation")}  # fmt: skip
        if mlps.RAW.column in mine:
            drawn = [mine[v.column] for v in DRAWN if v.column in mine]
            kinds["overlap"] = (
                list(mine.values()), draw_overlap,
                "Overlap of the top eigenspaces of layers of {} from different seeds",
            )  # fmt: skip
            kinds["eigenvectors"] = (
                drawn, draw_eigenvectors, "First eigenvectors of layers of {} as matrices"
            )  # fmt: skip
        found += [
            Drawing(
                name=f"layerwise_{kind}_{row.replace('-', '_')}", kind="figures",
                alt=alt.format(name), records=tuple(used), draw=functools.partial(draw, used),
            )
            for kind, (used, draw, alt) in kinds.items()
        ]  # fmt: skip
    return found


def _by_row(records: Records) -> dict[str, dict[str, Record]]:
    """The records with artifacts by row and column, the most faithful."""
    mine = [r for r in records if r.table == mlps.TABLE and r.artifact is not None]
    order = {variant.column: i for i, variant in enumerate(mlps.VARIANTS)}
    return {
        row: {
            column: min(same, key=lambda r: rank(r.fidelity))
            for column, same in sorted(
                grouped(found, lambda r: r.column).items(), key=lambda item: order.get(item[0], 0)
            )
        }
        for row, found in grouped(mine, lambda r: r.row).items()
    }


def _curves(used: list[Record], folder: Path) -> dict[str, Curves]:
    return {r.column: Curves.load(store.artifact(r, folder)) for r in used}


def draw_overlap(used: list[Record], folder: Path) -> Figure:
    """Draw the overlap by dimension, a panel a layer, a line a variant, random spaces dotted."""
    found = _curves(used, folder)
    layers = next(iter(found.values())).names
    figure = Figure(figsize=(3.5 * len(layers), 3.9), dpi=100, layout="constrained")
    for ax, layer in zip(figure.subplots(1, len(layers), sharey=True), layers, strict=True):
        for i, (column, curves) in enumerate(found.items()):
            curve = curves.part("overlap", layer)
            order = np.arange(1, len(curve) + 1)
            ax.plot(order, curve, "os^D"[i % 4] + "-", markersize=4, linewidth=1,
                    color=plotting.COLOURS[i], label=column)  # fmt: skip
        baseline = next(iter(found.values())).part("baseline", layer)
        ax.plot(order, baseline, ":", color="0.3", label="random spaces")
        ax.set_yscale("log")
        ax.locator_params(axis="x", integer=True)
        ax.grid(alpha=0.3)
        ax.set_title(layer, fontsize=10)
        ax.set_xlabel("dimension k of the spaces")
        if ax.get_subplotspec().is_first_col():
            ax.set_ylabel("overlap")
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9,
                  frameon=False)  # fmt: skip
    figure.suptitle(
        f"Top eigenspaces of layers of {used[0].n} networks, {_facts(used[0])}", fontsize=11
    )
    return figure


def draw_eigenvectors(used: list[Record], folder: Path) -> Figure:
    """Draw the first eigenvector of the first layers as a matrix, a row a variant."""
    found = _curves(used, folder)
    count = len(next(iter(found.values())).shapes)
    figure = Figure(figsize=(5.2 * count, 2.6 * len(found) + 0.4), dpi=90, layout="constrained")
    grid = figure.subplots(len(found), count, squeeze=False)
    for row, (column, curves) in zip(grid, found.items(), strict=True):
        for i, ax in enumerate(row):
            matrix = curves.matrix(i).astype(float)
            top = np.abs(matrix).max() or 1.0
            ax.imshow(matrix, cmap="RdBu_r", vmin=-top, vmax=top, aspect="auto",
                      interpolation="nearest")  # fmt: skip
            share = np.square(np.linalg.svd(matrix, compute_uv=False))
            ax.set_title(
                f"{column}: {curves.names[i]}, first singular value of these rows "
                f"{share[0] / share.sum():.0%}",
                fontsize=9,
            )
            ax.set(xlabel="input", ylabel="output")
    figure.suptitle(
        f"First eigenvectors of one network, the {len(matrix)} outputs of largest norm, "
        f"{_facts(used[0])}",
        fontsize=11,
    )
    return figure


def draw_eigenvalues(used: list[Record], folder: Path) -> Figure:
    """Draw the largest eigenvalues of layers and those of the Kronecker approximation."""
    (curves,) = _curves(used, folder).values()
    chosen = sorted(set(np.linspace(0, len(curves.names) - 1, PANELS).round().astype(int)))
    layers = [curves.names[i] for i in chosen]
    columns = min(3, len(layers))
    rows = -(-len(layers) // columns)
    figure = Figure(figsize=(3.5 * columns, 2.7 * rows + 0.9), dpi=100, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    lines: Mapping[str, str] = {"eigenvalues": "true", "approximate": "E[M] x E[xx']"}
    for ax, layer in zip(axes, layers, strict=False):
        for i, (field, label) in enumerate(lines.items()):
            values = curves.part(field, layer)
            ax.plot(np.arange(1, len(values) + 1), values, ("o-", "s--")[i], markersize=4,
                    linewidth=1, color=plotting.COLOURS[i], label=label)  # fmt: skip
        ax.set_yscale("log")
        ax.locator_params(axis="x", integer=True)
        ax.grid(alpha=0.3)
        ax.set_title(layer, fontsize=10)
    for ax in list(figure.axes)[len(layers) :]:
        ax.remove()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.supylabel("eigenvalue by rank", fontsize=10)
    figure.suptitle(f"Eigenvalues of layers, {_facts(used[0])}", fontsize=11)
    return figure


def _facts(record: Record) -> str:
    images = record.config["images"]
    return f"{network_name(record.row)}, {images} images [{record.fidelity}]"
