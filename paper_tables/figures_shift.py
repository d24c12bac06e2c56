"""Figures of the loss around trained networks on two data sets (appendix A.1 and A.2)."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from lla import plotting
from lla.landscape import Plane
from lla.records import FIDELITIES, Record, atomic_write
from paper_tables import figures, figures_landscape, store
from paper_tables.generalization import SIDES
from paper_tables.shift_planes import TABLE
from paper_tables.text import display

__all__ = ["draw", "write"]

SMALLEST = 9  # points along an axis: a coarser plane is no picture
SHOWN = tuple(f"median_{side}" for side in SIDES)  # the records that name a plane


def write(records: Sequence[Record], results: Path) -> None:
    """Write `figures/landscape_shift_<network>_<pair>.png`, the most faithful run of each pair.

    A figure whose records have not changed is not drawn again.

    Args:
        records: all published records.
        results: the folder of results, where the planes lie.
    """
    for (row, pair), found in _chosen(records).items():
        path = results / "figures" / f"landscape_shift_{row}_{pair}.png"
        lines = [_code(), *(record.to_json() for record in found)]
        key = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        if not path.exists() or figures.written_for(path) != key:
            atomic_write(path, figures_landscape.png(draw(found, results), key))


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


def _chosen(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
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


@functools.cache
def _code() -> str:
    """The code that draws: a change of it draws anew."""
    return "".join(Path(file).read_text() for file in (__file__, str(plotting.__file__)))
