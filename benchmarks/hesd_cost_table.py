"""Cost against accuracy (section 3.4): table and figure, from records alone."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tabulate import tabulate

from benchmarks.hesd_cost import BATCHES, PROBES, TABLE, Case, Measured, column
from lla import files
from lla.plotting import COLOURS
from paper_tables.engine import records
from paper_tables.engine.records import Record

HEADERS = ("n_hes", "batches", "seconds", "standard error of K_H05", "of its value",
           "passes with a loader", "passes on the device")  # fmt: skip

TEXT = """# What a criterion costs, and how sure it is for that

Section 3.4 of arXiv:2412.10146. One line a budget: n_hes probes on each of so many batches. \
Seconds are those of the whole of `lla.criteria`; time is linear (batches x (set-up + n_hes x \
run)), so few budgets were timed for real (*measured*) and the others follow from two of them \
(*predicted*). The standard error is that of K_H05 averaged over probes and batches. It follows \
from one run with the most probes and batches, whose scatter from probe to probe and from batch to \
batch gives that of every smaller budget: what resampling its batches, and the probes of each, \
comes to. *Passes*: how many accuracy passes over the full data set take as long, with an ordinary \
DataLoader (examples are read and prepared one by one, in the same process), and with the data \
already on the device.
"""


def save(new: Sequence[Record], case: Case, found: Measured, results: Path) -> None:
    """Publish the records of one case, its raw values, the table and the figures.

    Args:
        new: records of one case.
        case: what was measured.
        found: what came of it.
        results: the folder of results.
    """
    name = f"hesd_cost_{_name(new[0])}"
    folder = results / "benchmarks"
    files.atomic_write(folder / f"{name}.csv", raw(found).to_csv(index=False))
    path = results / "records" / f"{TABLE}.jsonl"
    place = (new[0].row, new[0].config_hash)
    records.update_records(
        path, lambda old: [r for r in old if (r.row, r.config_hash) != place] + list(new)
    )
    every = records.read_records(path)
    files.atomic_write(folder / "hesd_cost.md", render(every))
    if any(record.metric == "kh05" for record in new):
        stream = io.BytesIO()
        draw(new).savefig(stream, format="png", dpi=100)
        files.atomic_write(folder / f"{name}.png", stream.getvalue())


def raw(found: Measured) -> pd.DataFrame:
    """The criteria of every probe on every batch, one line each."""
    batches, probes = np.indices(found.kh05.shape)
    return pd.DataFrame(
        {
            "batch": batches.ravel(),
            "probe": probes.ravel(),
            "re": found.re.ravel(),
            "kh1": found.kh1.ravel(),
            "kh05": found.kh05.ravel(),
        }
    )


def render(found: Sequence[Record]) -> str:
    """The tables of all cases in Markdown.

    Args:
        found: all records of the cost of criteria.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in found:
        groups.setdefault((record.row, record.config_hash), []).append(record)
    return "\n".join([TEXT, *(_part(group) for group in groups.values())])


def _part(group: Sequence[Record]) -> str:
    first = group[0]
    cells = {(record.column, record.metric): record for record in group}
    loader = cells["accuracy pass", "seconds_loader"]
    resident = cells["accuracy pass", "seconds_resident"]
    lines = []
    for batches in BATCHES:
        for probes in PROBES:
            place = column(probes, batches)
            seconds, kh05 = cells[place, "seconds"], cells.get((place, "kh05"))
            lines.append(_line(seconds, kh05, loader, resident))
    data = first.data.name if first.data else ""
    config = first.config
    text = [
        f"## {first.row}: batches of {first.batch_size}, {config['side']} px, m = {config['m']}",
        f"{data} [{first.fidelity}]; {loader.note}; route {first.route}; {first.device}, "
        f"{first.threads} threads. An accuracy pass over {loader.n} images: "
        f"{loader.value:.3g} s with a DataLoader, {resident.value:.3g} s on the device.",
        _scatter(cells),
        _linearity(group),
        tabulate(lines, HEADERS, tablefmt="github", disable_numparse=True),
    ]
    if any(record.metric == "kh05" for record in group):
        text.append(f"![cost against accuracy](hesd_cost_{_name(first)}.png)")
    return "\n\n".join(part for part in text if part) + "\n"


def _line(
    seconds: Record, kh05: Record | None, loader: Record, resident: Record
) -> tuple[str, ...]:
    value, error = seconds.value or 0.0, None if kh05 is None else kh05.stderr
    return (
        str(seconds.probes),
        str(seconds.batches),
        f"{value:.3g} {seconds.note}",
        "" if error is None else f"{error:.2g}",
        "" if kh05 is None or error is None else f"{error / (kh05.value or 1.0):.1%}",
        *(f"{value / (accuracy.value or 1.0):.3g}" for accuracy in (loader, resident)),
    )


def _scatter(cells: dict[tuple[str, str], Record]) -> str:
    probes, batches = (cells.get(("scatter", name)) for name in ("probes", "batches"))
    if probes is None or batches is None:
        return ""
    mean = next(r.value for (_, metric), r in cells.items() if metric == "kh05")
    apart = [cells["scatter", f"range_{name}"].value for name in ("probes", "batches")]
    return (
        f"K_H05 = {mean:.4g}. Standard deviation over the probes of a batch {probes.value:.2g}, "
        f"over batches {batches.value:.2g} (from {probes.probes} probes on each of "
        f"{probes.batches} batches); single probes of a batch lie {apart[0]:.2g} apart at most, "
        f"batches {apart[1]:.2g}."
    )


def _linearity(group: Sequence[Record]) -> str:
    ratios = [
        f"{r.metric.removeprefix('ratio ')}: {r.value:.2f}"
        for r in group
        if r.column == "linearity" and r.value is not None
    ]
    return f"Measured over predicted seconds: {', '.join(ratios)}." if ratios else ""


def draw(group: Sequence[Record]) -> Figure:
    """The standard error of K_H05 against seconds, one line a number of batches.

    Filled marks were timed, hollow ones are predicted. The accuracy passes are vertical lines.

    Args:
        group: records of one case with a scatter.
    """
    cells = {(record.column, record.metric): record for record in group}
    figure = Figure(figsize=(6.8, 4.6), layout="constrained")
    ax = figure.add_subplot()
    for batches, colour, marker in zip(BATCHES, COLOURS, "os^D", strict=False):
        places = [column(probes, batches) for probes in PROBES]
        seconds = [cells[place, "seconds"].value or 0.0 for place in places]
        errors = [cells[place, "kh05"].stderr or 0.0 for place in places]
        label = f"{batches} batch{'es' if batches > 1 else ''}"
        ax.plot(seconds, errors, color=colour, linewidth=1, marker=marker, markersize=5,
                markerfacecolor="white", label=label)  # fmt: skip
        for place, probes, x, y in zip(places, PROBES, seconds, errors, strict=True):
            if cells[place, "seconds"].note == "measured":
                ax.plot([x], [y], color=colour, marker=marker, markersize=5)
            if batches == BATCHES[0]:
                ax.annotate(f"{probes}", (x, y), textcoords="offset points", xytext=(4, 4),
                            fontsize=7)  # fmt: skip
    for metric, style, label in (
        ("seconds_loader", "--", "accuracy, DataLoader"),
        ("seconds_resident", ":", "accuracy, on the device"),
    ):
        pass_ = cells["accuracy pass", metric]
        ax.axvline(pass_.value or 0.0, color="0.3", linestyle=style, linewidth=1, label=label)
    first = group[0]
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel(f"seconds of the criteria ({first.device}, {first.threads} threads)")
    ax.set_ylabel("standard error of K_H05")
    data = first.data.name if first.data else ""
    ax.set_title(f"{first.row}, {data} [{first.fidelity}], batches of {first.batch_size}, "
                 f"m = {first.config['m']}; numbers: n_hes", fontsize=9)  # fmt: skip
    ax.legend(frameon=False, fontsize=8)
    return figure


def _name(record: Record) -> str:
    return f"{record.row}_{record.config_hash[:8]}"
