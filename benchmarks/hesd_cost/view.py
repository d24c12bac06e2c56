"""Cost against accuracy (section 3.4): tables and figures, from records alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import view
from benchmarks.hesd_cost.measurement import BATCHES, PROBES, TABLE, budget_name
from benchmarks.view import Cells, number
from lla.plotting import COLOURS
from lla.report.view import Group, Line, Table
from paper_tables.engine.exhibit import Drawing, Exhibit, Records
from paper_tables.engine.records import Record

NAME = "hesd_cost"
COLUMNS = ("seconds", "standard error of K_H05", "of its value", "passes with a loader",
           "passes on the device")  # fmt: skip


def tables(records: Records) -> list[Table]:
    """A table a case: a line a budget."""
    return [_table(case) for case in view.grouped(records, view.case).values()]


def _table(records: Records) -> Table:
    first, cells = records[0], view.cells(records)
    return Table(
        file_name(first),
        f"{first.row}: batches of {first.batch_size}, {first.config['side']} px, "
        f"m = {first.config['m']}",
        "\n\n".join(
            part for part in (_inputs(cells), _scatter(cells), _linearity(records)) if part
        ),
        COLUMNS,
        tuple(
            Group(str(batches), "", tuple(_budget(cells, n, batches) for n in PROBES))
            for batches in BATCHES
        ),
        heads=("batches", "n_hes"),
    )


def _budget(cells: Cells, probes: int, batches: int) -> Line:
    place = budget_name(probes, batches)
    seconds, kh05 = cells[place, "seconds"], cells.get((place, "kh05"))
    error = None if kh05 is None else kh05.stderr
    passes = (cells["accuracy pass", f"seconds_{kind}"] for kind in ("loader", "resident"))
    return view.line(
        str(probes),
        f"{number(seconds):.3g} {seconds.note}",
        "" if error is None else f"{error:.2g}",
        "" if kh05 is None or error is None else f"{error / number(kh05):.1%}",
        *(f"{number(seconds) / number(accuracy):.3g}" for accuracy in passes),
    )


def _inputs(cells: Cells) -> str:
    loader, resident = (cells["accuracy pass", f"seconds_{k}"] for k in ("loader", "resident"))
    return (
        f"{_data(loader)}; {loader.note}; route {loader.route}; {view.machine(loader)}. An "
        f"accuracy pass over {loader.n} images: {number(loader):.3g} s with a DataLoader, "
        f"{number(resident):.3g} s on the device."
    )


def _scatter(cells: Cells) -> str:
    if ("scatter", "probes") not in cells:
        return ""
    mean = number(cells[budget_name(1, 1), "kh05"])
    probes, batches, of_probes, of_batches = (
        cells["scatter", name] for name in ("probes", "batches", "range_probes", "range_batches")
    )
    return (
        f"K_H05 = {mean:.4g}. Standard deviation over the probes of a batch {probes.value:.2g}, "
        f"over batches {batches.value:.2g} (from {probes.probes} probes on each of "
        f"{probes.batches} batches); single probes of a batch lie {of_probes.value:.2g} apart at "
        f"most, batches {of_batches.value:.2g}."
    )


def _linearity(records: Records) -> str:
    ratios = [
        f"{record.metric.removeprefix('ratio ')}: {record.value:.2f}"
        for record in records
        if record.column == "linearity"
    ]
    return f"Measured over predicted seconds: {', '.join(ratios)}." if ratios else ""


def _data(record: Record) -> str:
    return f"{record.data.name if record.data else ''} [{record.fidelity}]"


def file_name(record: Record) -> str:
    """The name of a case's files: its raw values, its figure."""
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
        for case in view.grouped(records, view.case).values()
        if any(record.metric == "kh05" for record in case)
    ]  # fmt: skip


def _draw(records: Records, _: Path) -> Figure:
    """One line a number of batches; the accuracy passes are vertical lines."""
    first, cells = records[0], view.cells(records)
    figure = Figure(figsize=(6.8, 4.6), layout="constrained")
    ax = figure.add_subplot()
    for batches, colour, marker in zip(BATCHES, COLOURS, "os^D", strict=False):
        _draw_budgets(ax, cells, batches, colour, marker)
    for metric, style, label in (
        ("seconds_loader", "--", "accuracy, DataLoader"),
        ("seconds_resident", ":", "accuracy, on the device"),
    ):
        seconds = number(cells["accuracy pass", metric])
        ax.axvline(seconds, color="0.3", linestyle=style, linewidth=1, label=label)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel(f"seconds of the criteria ({view.machine(first)})")
    ax.set_ylabel("standard error of K_H05")
    ax.set_title(f"{first.row}, {_data(first)}, batches of {first.batch_size}, "
                 f"m = {first.config['m']}; numbers: n_hes", fontsize=9)  # fmt: skip
    ax.legend(frameon=False, fontsize=8)
    return figure


def _draw_budgets(ax: Axes, cells: Cells, batches: int, colour: str, marker: str) -> None:
    """The budgets with so many batches; filled marks were timed, hollow ones are predicted."""
    places = [budget_name(probes, batches) for probes in PROBES]
    seconds = [number(cells[place, "seconds"]) for place in places]
    errors = [cells[place, "kh05"].stderr or 0.0 for place in places]
    ax.plot(seconds, errors, color=colour, linewidth=1, marker=marker, markersize=5,
            markerfacecolor="white", label=f"{batches} batch{'es' * (batches > 1)}")  # fmt: skip
    for place, probes, x, y in zip(places, PROBES, seconds, errors, strict=True):
        if cells[place, "seconds"].note == "measured":
            ax.plot([x], [y], color=colour, marker=marker, markersize=5)
        if batches == BATCHES[0]:
            ax.annotate(f"{probes}", (x, y), textcoords="offset points", xytext=(4, 4),
                        fontsize=7)  # fmt: skip


EXHIBIT = Exhibit(
    NAME, "benchmarks", tables=tables, figures=figures, sources=(TABLE,),
)  # fmt: skip
