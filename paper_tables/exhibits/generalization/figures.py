"""Figures of the runs of section 4, from records alone: what is measured, epoch by epoch.

Figures 10 and 12 of the paper show accuracy and loss, 11 and 13 K_H05 on both data sets, the
appendix K_H1 and r_e.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lla import plotting
from paper_tables.engine.cells import METRIC_NAMES
from paper_tables.engine.exhibit import Drawing, Records
from paper_tables.engine.fidelity import least_faithful
from paper_tables.engine.records import Record
from paper_tables.exhibits.generalization.runs import OWN_TEST, SIDES, Run, best_runs
from paper_tables.paper.names import display

# End of the file's name -> the metrics of its panels.
FIGURES = {"accuracy": ("accuracy", "loss"), "kh05": ("kh05",), "kh1_re": ("kh1", "re")}

# Told apart by colour, marker and line alike.
STYLES = {
    "training": {"color": plotting.COLOURS[0], "marker": "o", "linestyle": "-"},
    "generalization": {"color": plotting.COLOURS[1], "marker": "s", "linestyle": "--"},
    OWN_TEST: {"color": plotting.COLOURS[2], "marker": "^", "linestyle": ":"},
}


def figures(records: Records) -> list[Drawing]:
    """What is measured along every run, by epoch.

    Of several runs of a network on the same two data sets the most faithful and longest is drawn.
    """
    return [
        Drawing(
            name=f"generalization_{name}_{what}",
            kind="figures",
            alt=f"{' and '.join(METRIC_NAMES[metric] for metric in metrics)} of {display(run.row)} "
            f"by epoch on two data sets ({run.trained_on}-{run.other})",
            records=tuple(sorted(shown, key=lambda record: record.to_json())),
            draw=functools.partial(draw, run, what),
        )
        for name, run in best_runs(records).items()
        for what, metrics in FIGURES.items()
        if (shown := _shown(run, what))
    ]


def draw(run: Run, what: str, _: Path | None = None) -> Figure:
    """Draw metrics of a run by epoch, one panel each, with bands of one standard error.

    Args:
        run: the run.
        what: one of `FIGURES`.
    """
    shown = _shown(run, what)
    metrics = [metric for metric in FIGURES[what] if any(r.metric == metric for r in shown)]
    figure = Figure(figsize=(8.4, 4.2), dpi=100, layout="constrained")
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    for ax, metric in zip(panels, metrics, strict=True):
        for side, data in zip(SIDES, (run.trained_on, run.other), strict=True):
            _line(ax, run, side, metric, f"{side}: {display(data)}", STYLES[side])
        if metric == "accuracy":
            label = f"test split of {display(run.trained_on)}"
            _line(ax, run, "training", OWN_TEST, label, STYLES[OWN_TEST])
        if metric != "accuracy" and _spans_decades(ax):
            ax.set_yscale("log")
        _epochs(ax, int(run.epochs.max()), narrow=len(metrics) > 1)
        ax.set_ylabel(METRIC_NAMES[metric])
        ax.grid(alpha=0.3)
    epochs = f"{run.length} epoch{'s' if run.length != 1 else ''}"
    fidelity = least_faithful(record.fidelity for record in shown)
    title = f"{run.name}\n{epochs}{_settings(shown)} [fidelity: {fidelity}]"
    figure.suptitle(title, fontsize=11)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _line(ax: Axes, run: Run, side: str, metric: str, label: str, style: dict[str, str]) -> None:
    values, errors = run.series(side, metric)
    there = np.isfinite(values)
    if not there.any():
        return
    epochs, values, errors = run.epochs[there], values[there], errors[there]
    ax.plot(epochs, values, label=label, markersize=4, linewidth=1.4, **style)  # type: ignore[arg-type]
    known = np.isfinite(errors)
    ax.fill_between(
        epochs[known],
        (values - errors)[known],
        (values + errors)[known],
        color=style["color"],
        alpha=0.2,
        linewidth=0,
    )


def _spans_decades(ax: Axes) -> bool:
    """Whether the values drawn are positive and differ by a factor of 100."""
    values = np.concatenate([np.empty(0), *(np.asarray(line.get_ydata()) for line in ax.lines)])
    return bool(values.size and values.min() > 0 and values.max() >= 100 * values.min())


def _epochs(ax: Axes, last: int, narrow: bool) -> None:
    """A logarithmic axis of epochs that begins at 0, which is before training."""
    ax.set_xscale("symlog", linthresh=1, linscale=0.4)
    ax.set_xlim(-0.25, max(1.25 * last, 1.25))
    steps = (1, 3) if narrow or last > 200 else (1, 2, 5)
    ticks = [step * 10**power for power in range(len(str(last))) for step in steps]
    ax.xaxis.set_major_locator(FixedLocator([0, *(tick for tick in ticks if tick <= last)]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("epoch (0: before training)")


def _shown(run: Run, what: str) -> list[Record]:
    """The records that a figure shows."""
    metrics = FIGURES[what]
    names = (*metrics, OWN_TEST) if "accuracy" in metrics else metrics
    return [record for record in run.records.values() if record.metric in names]


def _settings(shown: Sequence[Record]) -> str:
    """What criteria depend on besides the weights; nothing of an accuracy."""
    found = [record for record in shown if record.m]
    if not found:
        return ""
    sizes = " and ".join(dict.fromkeys(f"{r.batches} x {r.batch_size} images" for r in found))
    count = found[0].probes
    return f", m = {found[0].m}, {sizes}, {count} probe{'s' if count != 1 else ''}"
