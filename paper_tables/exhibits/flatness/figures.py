"""Figures of exact flatness: kappa against the generalization gap, and kappa layer by layer."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from lla import plotting
from paper_tables.engine.exhibit import Drawing, Records
from paper_tables.engine.fidelity import rank
from paper_tables.engine.records import Record
from paper_tables.evidence.selection import by_cell
from paper_tables.exhibits.flatness import networks
from paper_tables.exhibits.flatness.correlation import Members, correlations, members
from paper_tables.paper.names import display

PANELS = (("kappa", "kappa"), ("trace", "trace"), ("rescaled_trace", "trace, layers rescaled"))
LAYERS = "resnet20"


def figures(records: Records) -> list[Drawing]:
    """One figure a family, and one of the layers of ResNet20, where they were measured."""
    found = [
        Drawing(
            name=f"flatness_gap_{each.name}",
            kind="figures",
            alt=f"Relative flatness and trace against the generalization gap of networks on "
            f"{display(each.name)}",
            records=tuple(r for r in each.records if r.metric in _drawn()),
            draw=functools.partial(draw_gap, each),
        )
        for each in members(records)
    ]
    layers = _layers(records)
    if layers:
        found.append(
            Drawing(
                name=f"flatness_layers_{LAYERS}",
                kind="figures",
                alt=f"Relative flatness and trace of every layer of {display(LAYERS)}",
                records=tuple(layers),
                draw=functools.partial(draw_layers, layers),
            )
        )
    return found


def _drawn() -> tuple[str, ...]:
    return ("gap_loss", *(metric for metric, _ in PANELS))


def draw_gap(each: Members, _: Path | None = None) -> Figure:
    """Draw measures against the gap of the loss, a point a network, with its standard error."""
    figure = Figure(figsize=(10.5, 3.8), dpi=100, layout="constrained")
    taus = {
        ("rescaled_" if c.rescaled else "") + c.measure: c.tau
        for c in correlations(each)
        if not c.filtered
    }
    values, errors = each.values, each.errors
    for ax, (metric, title) in zip(figure.subplots(1, 3, sharey=True), PANELS, strict=True):
        ax.errorbar(
            values[metric], values["gap_loss"], yerr=errors["gap_loss"], fmt="o", markersize=4,
            elinewidth=0.8, color=plotting.COLOURS[0],
        )  # fmt: skip
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel(title)
        ax.set_title(f"tau {taus[metric]}" if metric in taus else "", fontsize=10)
        ax.grid(alpha=0.3)
        if ax.get_subplotspec().is_first_col():
            ax.set_ylabel("loss on test - on training images")
    figure.suptitle(
        f"{len(values)} networks on {display(each.name)}, equal training loss "
        f"[{each.fidelity}]; bars: 1 standard error",
        fontsize=11,
    )
    return figure


def draw_layers(found: Sequence[Record], _: Path | None = None) -> Figure:
    """Draw kappa and trace of every layer of a network, from input to output."""
    figure = Figure(figsize=(8.0, 4.4), dpi=100, layout="constrained")
    ax = figure.subplots()
    layers = found[0].config["layers"]
    values = {record.metric: record.value for record in found}
    for i, metric in enumerate(("kappa", "trace")):
        heights = np.array([values.get(f"{metric} {layer}") for layer in layers], dtype=float)
        ax.plot(range(len(layers)), heights, "os"[i] + "-", markersize=4, linewidth=0.8,
                color=plotting.COLOURS[i], label=metric)  # fmt: skip
    ax.set_yscale("log")
    ax.set_xticks(range(len(layers)), layers, rotation=90, fontsize=8)
    ax.grid(alpha=0.3)
    ax.legend()
    config = found[0].config
    ax.set_title(
        f"{display(found[0].row)} ({config['weights']}), {config['images']} images of "
        f"{display(config['data'])} [{found[0].fidelity}]",
        fontsize=10,
    )
    return figure


def _layers(records: Records) -> list[Record]:
    """The records of all layers of the network, the most faithful."""
    cells = by_cell(records, networks.TABLE)
    mine = [
        list(found.values())
        for (row, column, _), found in cells.items()
        if (row, column) == (LAYERS, networks.ALL)
    ]
    return min(mine, key=lambda found: rank(found[0].fidelity)) if mine else []
