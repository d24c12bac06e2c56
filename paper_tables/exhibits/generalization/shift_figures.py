"""Figures of the loss around trained networks on two data sets (appendix A.1 and A.2)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from lla.landscape import Plane
from paper_tables.engine import store
from paper_tables.engine.exhibit import Drawing, Records
from paper_tables.engine.fidelity import rank
from paper_tables.engine.records import Record
from paper_tables.evidence.selection import by_cell, grouped
from paper_tables.exhibits.generalization.runs import SIDES
from paper_tables.exhibits.generalization.shift_planes import TABLE
from paper_tables.paper.names import display

COLOURS = 256  # of a picture: a third of the size
SMALLEST = 9  # points along an axis: a coarser plane is no picture
SHOWN = tuple(f"median_{side}" for side in SIDES)  # the records that name a plane


def figures(records: Records) -> list[Drawing]:
    """The loss around the trained network of every pair, of the most faithful run."""
    return [
        Drawing(
            name=f"landscape_shift_{row}_{pair}",
            kind="surfaces",
            alt=f"Loss around trained {display(row)} on both data sets of {pair}, as contours",
            records=tuple(found),
            draw=functools.partial(draw, found),
            colours=COLOURS,
        )
        for (row, pair), found in _chosen(records).items()
    ]


def draw(found: Sequence[Record], folder: Path) -> Figure:
    """Draw the planes of both data sets side by side, with colours of their own.

    Args:
        found: the record of each side.
        folder: what their artifacts are named relative to.

    Raises:
        ChecksumError: a plane is not the one that its record names.
    """
    figure = Figure(figsize=(9.6, 4.4), dpi=72, layout="constrained")
    for i, (side, record) in enumerate(zip(SIDES, found, strict=True)):
        plane = Plane.load(store.artifact(record, folder))
        ax = figure.add_subplot(1, len(found), i + 1)
        plane.plot("contour", ax=ax)
        data = display(record.data.name) if record.data else ""
        ax.set_title(f"{side} data: {data}", fontsize=10, pad=18)  # above the legend
    config = found[0].config
    figure.suptitle(
        f"{display(found[0].row)}, trained on {display(config['trained_on'])}, {config['epochs']} "
        f"epochs; Gaussian axes, filter L2 [fidelity: {found[0].fidelity}]",
        fontsize=11,
    )
    return figure


def _chosen(records: Records) -> dict[tuple[str, str], list[Record]]:
    """The records of the planes of each pair, the most faithful, finest and longest."""
    whole = {
        cell: [metrics[name] for name in SHOWN]
        for cell, metrics in by_cell(records, TABLE).items()
        if all(name in metrics and metrics[name].artifact for name in SHOWN)
        and metrics[SHOWN[0]].config["points"] >= SMALLEST
    }
    pairs = grouped(whole, lambda cell: cell[:2])
    return {pair: max((whole[cell] for cell in same), key=_quality) for pair, same in pairs.items()}


def _quality(found: Sequence[Record]) -> tuple[int, ...]:
    first = found[0]
    return (-rank(first.fidelity), first.config["points"], first.config["epochs"])
