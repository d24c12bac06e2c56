"""Figures of the loss around trained networks on two data sets (appendix A.1 and A.2)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from lla.landscape import Plane
from paper_tables.engine import store
from paper_tables.engine.exhibit import Drawing, Records
from paper_tables.engine.records import FIDELITIES, Record
from paper_tables.exhibits.generalization.cells import SIDES
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
    groups: dict[tuple[str, str, str], dict[str, Record]] = {}
    for record in records:
        if record.table == TABLE and record.metric in SHOWN and record.artifact is not None:
            key = (record.row, record.column, record.config_hash)
            groups.setdefault(key, {})[record.metric] = record

    def quality(group: dict[str, Record]) -> tuple[int, ...]:
        first = group[SHOWN[0]]
        rank = FIDELITIES.index(first.fidelity or FIDELITIES[-1])
        return (-rank, first.config["points"], first.config["epochs"])

    best: dict[tuple[str, str], dict[str, Record]] = {}
    for (row, pair, _), group in groups.items():
        fine = len(group) == len(SHOWN) and group[SHOWN[0]].config["points"] >= SMALLEST
        if fine and ((row, pair) not in best or quality(group) > quality(best[row, pair])):
            best[row, pair] = group
    return {place: [group[metric] for metric in SHOWN] for place, group in best.items()}
