"""Cost against accuracy (section 3.4): tables and figures, from records alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import view
from benchmarks.hesd_cost.measurement import BATCHES, PROBES, TABLE, budget_name
from lla.plotting import COLOURS
from lla.report.view import Group, Line, Table
from paper_tables.engine.exhibit import Drawing, Exhibit, Records
from paper_tables.engine.records import Record
from paper_tables.evidence.criteria import value_of

NAME = "hesd_cost"
COLUMNS = {
    "seconds": "{seconds.value:.3g} {seconds.note}",
    "standard error of K_H05": "{error}",
    "of its value": "{relative}",
    "passes with a loader": "{seconds_loader:.3g}",
    "passes on the device": "{seconds_resident:.3g}",
}

Cells = dict[str, dict[str, Record]]  # by column, then by metric


def tables(records: Records) -> list[Table]:
    """One table for each case, with a line for each budget."""
    return [_table(case) for case in view.cases(records)]


def _table(records: Records) -> Table:
    first, cells = records[0], view.columns(records)
    legend = view.said(
        "hesd_cost_case", passes=cells["accuracy pass"], data=view.data(first),
        machine=view.machine(first), mean=cells[budget_name(1, 1)].get("kh05"),
        scatter=cells.get("scatter"), linearity=cells.get("linearity"),
    )  # fmt: skip
    groups = tuple(
        Group(str(batches), "", tuple(_budget(cells, n, batches) for n in PROBES))
        for batches in BATCHES
    )
    settings = f"{first.config['side']} px, m = {first.config['m']}"
    title = f"{first.row}: batches of {first.batch_size}, {settings}"
    return Table(
        file_name(first), title, legend, tuple(COLUMNS), groups, heads=("batches", "n_hes")
    )


def _budget(cells: Cells, probes: int, batches: int) -> Line:
    found = cells[budget_name(probes, batches)]
    known: dict[str, object] = dict(found)
    for metric, accuracy in cells["accuracy pass"].items():
        known[metric] = value_of(found["seconds"]) / value_of(accuracy)
    if "kh05" in found and not _estimated(cells):
        known["error"] = "not estimated"
    elif "kh05" in found:
        error = found["kh05"].stderr or 0.0
        known |= {"error": f"{error:.2g}", "relative": f"{error / value_of(found['kh05']):.1%}"}
    return view.line(str(probes), COLUMNS, known)


def _estimated(cells: Cells) -> bool:
    """Whether the scatter over batches is known; it is cut off at 0 where probes explain all."""
    return value_of(cells["scatter"]["batches"]) > 0


def file_name(record: Record) -> str:
    """The name of a case's files: those of its raw values and its figure."""
    return f"{NAME}_{record.row}_{record.config_hash[:8]}"


# --- figures


def figures(records: Records) -> list[Drawing]:
    """The standard error of K_H05 against seconds, of every case that has one."""
    return [
        Drawing(
            file_name(case[0]), "figures",
            f"cost against accuracy, {case[0].row}, batches of {case[0].batch_size}",
            tuple(case), partial(_draw, case),
        )
        for case in view.cases(records)
        if any(record.metric == "kh05" for record in case)
    ]  # fmt: skip


def _draw(records: Records, _: Path) -> Figure:
    """Draw a line for each number of batches, and the accuracy passes as vertical lines."""
    first, cells = records[0], view.columns(records)
    figure = Figure(figsize=(6.8, 4.6), layout="constrained")
    ax = figure.add_subplot()
    for batches, colour, marker in zip(BATCHES, COLOURS, "os^D", strict=False):
        _draw_budgets(ax, cells, batches, {"color": colour, "marker": marker, "markersize": 5})
    for kind, style, label in (("loader", "--", "DataLoader"), ("resident", ":", "on the device")):
        seconds = value_of(cells["accuracy pass"][f"seconds_{kind}"])
        ax.axvline(seconds, color="0.3", linestyle=style, linewidth=1, label=f"accuracy, {label}")
    ax.set(
        xscale="log",
        yscale="log",
        xlabel=f"seconds of the criteria ({view.machine(first)})",
        ylabel=f"standard error of K_H05{'' if _estimated(cells) else ', of the probes alone'}",
    )
    settings = f"batches of {first.batch_size}, m = {first.config['m']}"
    ax.set_title(f"{first.row}, {view.data(first)}, {settings}; numbers: n_hes", fontsize=9)
    ax.legend(frameon=False, fontsize=8)
    return figure


def _draw_budgets(ax: Axes, cells: Cells, batches: int, style: dict[str, Any]) -> None:
    """Draw the budgets with a number of batches; filled marks were timed, hollow ones not."""
    budgets = [cells[budget_name(probes, batches)] for probes in PROBES]
    seconds = [value_of(budget["seconds"]) for budget in budgets]
    errors = [budget["kh05"].stderr or 0.0 for budget in budgets]
    label = f"{batches} batch{'es' * (batches > 1)}"
    ax.plot(seconds, errors, linewidth=1, markerfacecolor="white", label=label, **style)
    for probes, budget, x, y in zip(PROBES, budgets, seconds, errors, strict=True):
        if budget["seconds"].note == "measured":
            ax.plot([x], [y], **style)
        if batches == BATCHES[0]:
            ax.annotate(str(probes), (x, y), (4, 4), textcoords="offset points", fontsize=7)


EXHIBIT = Exhibit(
    NAME, "benchmarks", tables=tables, figures=figures, sources=(TABLE,),
)  # fmt: skip
