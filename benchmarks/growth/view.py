"""The table and the figure of how cost grows, from records alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import view
from benchmarks.growth.measurement import ALL, SPEEDS, TABLE, UPPER
from lla.plotting import COLOURS
from lla.report.text import measured
from lla.report.view import Group, Line, Table
from paper_tables.engine.exhibit import Drawing, Exhibit, Records
from paper_tables.engine.records import Record
from paper_tables.evidence.criteria import value_of
from paper_tables.evidence.intervals import quantile
from paper_tables.evidence.selection import grouped

COLUMNS = {
    "seconds": "{first.value:.2g} to {last.value:.3g}",
    "predicted seconds": "{predicted_first.value:.2g} to {predicted_last.value:.3g}",
    "exponent": "{exponent}",
    "predicted": "{predicted_exponent}",
    "agree": "{agree}",
    "exponent, upper half": "{upper_exponent}",
    "predicted, upper half": "{upper_predicted_exponent}",
    "agree, upper half": "{upper_agree}",
    "with the set-up": "{whole_exponent}",
}
ACROSS, ROOM = 4, 2.7  # panels of the figure in a row, and inches of each
GIGA, MILLI = 1e9, 1e3
LONG = 10_000  # numbers from here on have no tick of their own

Cells = Mapping[str, Mapping[str, Record]]  # by column, then by metric


def tables(records: Records) -> list[Table]:
    """One table with a group for each axis, and a line for each range that was measured."""
    groups = tuple(
        Group(axis, _settings(cases[-1]), tuple(_line(case) for case in cases))
        for axis, cases in _axes(records).items()
    )
    heads = ("axis", "from ... to")
    return [Table(TABLE, "Exponents", "", tuple(COLUMNS), groups, heads=heads)]


def _settings(records: Records) -> str:
    """The machine, and the speeds that were measured on it."""
    found = {metric: value_of(record) for metric, record in view.columns(records)[SPEEDS].items()}
    parts = [
        view.machine(records[0]),
        f"{found['flops'] / GIGA:.0f} GFLOP/s",
        f"{found['memory'] / GIGA:.1f} GB/s",
        f"{found['product'] * MILLI:.2f} ms a product",
        f"{found['step'] * MILLI:.2f} ms a step",
    ]
    if "link" in found:
        parts.append(f"{found['link'] / GIGA:.2f} GB/s sent")
    return ", ".join(parts)


def _axes(records: Records) -> dict[str, list[list[Record]]]:
    """The cases of each axis."""
    found = grouped(view.cases(records), lambda case: case[0].row)
    return {axis: list(cases) for axis, cases in found.items()}


def _sizes(cells: Cells) -> list[int]:
    """The points of a case, ascending: all columns that are numbers."""
    return sorted(int(column) for column in cells if column.isdecimal())


def _line(records: Records) -> Line:
    cells = view.columns(records)
    sizes = _sizes(cells)
    first, last = (cells[str(size)] for size in (sizes[0], sizes[-1]))
    known: dict[str, object] = {
        "first": first["seconds"],
        "last": last["seconds"],
        "predicted_first": first["predicted_seconds"],
        "predicted_last": last["predicted_seconds"],
    }
    for prefix, column in (("", ALL), ("upper_", UPPER)):
        for metric, record in cells.get(column, {}).items():
            known[prefix + metric] = measured(record.value, record.stderr)
        if column in cells:
            known[prefix + "agree"] = agreement(cells[column]["difference"])
    return view.line(f"{sizes[0]:,} to {sizes[-1]:,}", COLUMNS, known)


def agreement(difference: Record) -> str:
    """Whether the 95 % interval of a difference holds zero; by how much it differs if not.

    Args:
        difference: measured minus predicted exponent: the mean over rounds.
    """
    value, error = value_of(difference), difference.stderr or 0.0
    if abs(value) <= quantile((difference.n or 2) - 1) * error:
        return "yes"
    return f"differs by {value:+.2f}"


# --- figure


def figures(records: Records) -> list[Drawing]:
    """Seconds along every axis, with the predicted line."""
    if not records:
        return []
    alt = "seconds along each axis, measured and predicted, on logarithmic scales"
    return [Drawing(TABLE, "figures", alt, tuple(records), partial(_draw, records))]


def _draw(records: Records, _: Path) -> Figure:
    axes = _axes(records)
    down = math.ceil((len(axes) + 1) / ACROSS)  # one panel for the legend
    figure = Figure(figsize=(ROOM * ACROSS, ROOM * down), layout="constrained")
    panels = figure.subplots(down, ACROSS, squeeze=False).ravel()
    for ax, (axis, cases) in zip(panels, axes.items(), strict=False):
        for case, colour in zip(cases, COLOURS, strict=False):
            _draw_case(ax, view.columns(case), colour)
        ax.set(xscale="log", yscale="log", xlabel=axis, ylabel="seconds")
        _mark(ax, [view.columns(case) for case in cases])
    for ax in panels[len(axes) :]:
        ax.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    panels[len(axes)].legend(handles[:2], labels[:2], loc="upper left", frameon=False, fontsize=9)
    return figure


def _draw_case(ax: Axes, cells: Cells, colour: str) -> None:
    """Draw the points with two standard errors, and the predicted line."""
    sizes = _sizes(cells)
    points = [cells[str(size)] for size in sizes]
    predicted = [value_of(point["predicted_seconds"]) for point in points]
    ax.plot(sizes, predicted, color="0.4", linewidth=1, label="predicted")
    ax.errorbar(
        sizes,
        [value_of(point["seconds"]) for point in points],
        [2 * (point["seconds"].stderr or 0.0) for point in points],
        fmt="o", markersize=4, capsize=3, linewidth=1, color=colour,
        label="measured, ± 2 standard errors",
    )  # fmt: skip


def _mark(ax: Axes, cases: Sequence[Cells]) -> None:
    """Set ticks at the points if their numbers are short, and the exponents above."""
    sizes = sorted({size for cells in cases for size in _sizes(cells)})
    if sizes[-1] < LONG:
        ax.set_xticks(sizes, labels=[str(size) for size in sizes], fontsize=8)
        ax.set_xticks([], minor=True)
    texts = []
    for cells in cases:
        found, expected = (cells[ALL][m] for m in ("exponent", "predicted_exponent"))
        exponent = measured(found.value, found.stderr)
        texts.append(f"exponent {exponent}\npredicted {value_of(expected):.2f}")
    ax.set_title("\n".join(texts), fontsize=8)


EXHIBIT = Exhibit(TABLE, "benchmarks", tables=tables, figures=figures)
