"""The criteria along a training against the loss: an epoch by itself says little.

Adam's loss falls by decades and jumps up again, so that two epochs side by side may be at very
different states. Each point is an epoch on one of the two data sets; a dotted line is what the
paper prints in Table 2 for LeNet trained on MNIST.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_tables.engine.cells import METRIC_NAMES
from paper_tables.engine.exhibit import Drawing, Records
from paper_tables.engine.fidelity import least_faithful
from paper_tables.engine.records import Record
from paper_tables.exhibits.generalization.figures import STYLES
from paper_tables.exhibits.generalization.runs import SIDES, Run, best_runs, file_name
from paper_tables.paper import paper_value
from paper_tables.paper.names import display

METRICS = ("kh1", "kh05", "re")
PRINTED = "mnist"  # what the network of Table 2 was trained on
LEAST = 3  # points that a panel needs


def figures(records: Records) -> list[Drawing]:
    """One figure for each network and pair of data sets, of its most faithful and longest run."""
    return [
        Drawing(
            name=figure_name(run),
            kind="figures",
            alt=f"K_H1, K_H05 and r_e of {display(run.row)} against its loss "
            f"({run.trained_on}-{run.other})",
            records=tuple(sorted(shown, key=lambda record: record.to_json())),
            draw=functools.partial(draw, run),
            colours=32,
        )
        for run in best_runs(records).values()
        if (shown := _shown(run)) and has_figure(run)
    ]


def figure_name(run: Run) -> str:
    """The name of the figure of a run."""
    return f"generalization_{file_name(run)}_by_loss"


def has_figure(run: Run) -> bool:
    """Whether a run has enough points for a figure."""
    return len(_points(run, SIDES[0], METRICS[0])[0]) >= LEAST


def draw(run: Run, _: Path | None = None) -> Figure:
    """Draw the criteria of a run against the loss on the same data, with standard errors."""
    figure = Figure(figsize=(9.6, 4.2), dpi=100, layout="constrained")
    panels = figure.subplots(1, len(METRICS))
    for ax, metric in zip(panels, METRICS, strict=True):
        _panel(ax, run, metric)
    shown = _shown(run)
    fidelity = least_faithful(record.fidelity for record in shown)
    figure.suptitle(
        f"{run.name}\ncriteria against the loss; numbers are epochs [fidelity: {fidelity}]",
        fontsize=11,
    )
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _panel(ax: Axes, run: Run, metric: str) -> None:
    for side, data in zip(SIDES, (run.trained_on, run.other), strict=True):
        epochs, losses, values, errors = _points(run, side, metric)
        style = STYLES[side]
        ax.errorbar(
            losses, values, yerr=errors, color=style["color"], marker=style["marker"],
            linestyle="none", markersize=4.5, capsize=2, label=f"{side}: {display(data)}",
        )  # fmt: skip
        for epoch, loss, value in zip(epochs, losses, values, strict=True):
            ax.annotate(
                str(epoch), (loss, value), xytext=(4, 3), textcoords="offset points",
                fontsize=7, color=style["color"],
            )  # fmt: skip
    printed = paper_value("table2", run.row, "pretrained/eval", metric)
    if printed is not None and run.trained_on == PRINTED:
        ax.axhline(
            float(printed), color="0.3", linestyle=":", linewidth=1.2, label="the paper, trained"
        )
    ax.set_xscale("log")
    ax.set_xlabel("loss on the same data")
    ax.set_ylabel(METRIC_NAMES[metric])
    if metric == "re":
        ax.set_yscale("log")
    ax.grid(alpha=0.3)


def _points(
    run: Run, side: str, metric: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Epochs, losses, values and standard errors of the epochs that have both."""
    losses, _ = run.series(side, "loss")
    values, errors = run.series(side, metric)
    there = np.isfinite(values) & (losses > 0)
    return run.epochs[there], losses[there], values[there], errors[there]


def _shown(run: Run) -> list[Record]:
    """The records that the figure shows: criteria, and the losses of their epochs."""
    measured = {(side, epoch) for side, metric, epoch in run.records if metric in METRICS}
    return [
        record
        for (side, metric, epoch), record in run.records.items()
        if metric in METRICS or (metric == "loss" and (side, epoch) in measured)
    ]
