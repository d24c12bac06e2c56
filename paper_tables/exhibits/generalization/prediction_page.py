"""The page on prediction: results/prediction.md, its numbers as CSV, and its figure."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lla import plotting
from lla.report.prose import fill
from lla.report.text import csv_table
from lla.report.view import Entry, Group, Line, Table
from paper_tables.engine.exhibit import Drawing, Records
from paper_tables.evidence.resampling import UNKNOWN
from paper_tables.exhibits.generalization import prediction
from paper_tables.exhibits.generalization.prediction import Prediction, by_pool, checkpoints
from paper_tables.exhibits.generalization.runs import runs

TEMPLATE = Path(__file__).with_name("prediction.md.j2")


def pages(records: Records) -> dict[str, str]:
    """`prediction.md` and `prediction.csv`, where some run has a checkpoint that counts."""
    found = prediction.predictions(runs(records))
    if not found:
        return {}
    pools = [(_table(pool), pool[0], checkpoints(pool[0])) for pool in by_pool(found)]
    page = fill(
        TEMPLATE,
        headline=prediction.headline(found),
        resamples=prediction.RESAMPLES,
        few_runs=prediction.FEW_RUNS,
        least=prediction.LEAST,
        pools=pools,
    )
    return {"prediction.md": page, "prediction.csv": csv_table(_frame(found))}


def figures(records: Records) -> list[Drawing]:
    """The rank correlations of every predictor, where some checkpoint counts."""
    followed = runs(records)
    found = prediction.predictions(followed)
    drawing = Drawing(
        name="prediction",
        kind="figures",
        alt="Rank correlation of losses and Hessian criteria with the change of accuracy",
        records=tuple(record for run in followed for record in run.records.values()),
        draw=functools.partial(draw, found),
    )
    return [drawing] if found else []


def _table(pool: Sequence[Prediction]) -> Table:
    """One line a predictor."""
    first = pool[0]
    return Table(
        id=f"prediction-{first.pool}",
        title=f"{first.pool} [{first.fidelity}]",
        legend="",
        columns=("n", "tau [95 %]", "within runs", "loss minus criterion [95 %]", "who wins"),
        groups=(Group("", "", tuple(map(_line, pool))),),
        heads=("", "predictor"),
    )


def _line(p: Prediction) -> Line:
    within = f"{p.within:+.2f}" if math.isfinite(p.within) else "—"
    difference = "" if p.difference is None else str(p.difference)
    texts = (str(p.n), str(p.tau), within, difference, p.winner)
    return Line(prediction.PREDICTORS[p.predictor], tuple(map(Entry, texts)))


def _frame(found: Sequence[Prediction]) -> pd.DataFrame:
    rows = [
        {
            "pool": p.pool,
            "fidelity": p.fidelity,
            "runs": "; ".join(p.runs),
            "resampling": p.resampling,
            "predictor": p.predictor,
            "n": p.n,
            "tau": p.tau.value,
            "tau_low": p.tau.low,
            "tau_high": p.tau.high,
            "tau_within_runs": p.within,
            "difference": d.value,
            "difference_low": d.low,
            "difference_high": d.high,
            "winner": p.winner,
        }
        for p in found
        for d in [p.difference or UNKNOWN]
    ]
    return pd.DataFrame(rows).round(6)


def draw(found: Sequence[Prediction], _: Path | None = None) -> Figure:
    """Draw tau with its interval, one line a predictor, one panel a pool; the loss on top."""
    pools = by_pool(found)
    columns = min(3, len(pools))
    lines = -(-len(pools) // columns)
    size = (max(8.0, 2.0 + 3.0 * columns), 0.6 + 3.1 * lines)
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for ax, pool in zip(panels.flat, pools, strict=False):
        _panel(ax, pool)
    for ax in panels.flat[len(pools) :]:
        ax.set_visible(False)
    figure.suptitle("Rank correlation with the change of the accuracy, 95 % intervals", fontsize=11)
    return figure


def _panel(ax: Axes, pool: Sequence[Prediction]) -> None:
    names = list(prediction.PREDICTORS)
    for p in pool:
        if not math.isfinite(p.tau.value):
            continue
        criterion = p.predictor in prediction.CRITERIA
        # a percentile interval of a biased estimate need not hold the estimate itself
        below, above = max(0.0, p.tau.value - p.tau.low), max(0.0, p.tau.high - p.tau.value)
        ax.errorbar(
            p.tau.value,
            names.index(p.predictor),
            xerr=[[below], [above]],
            fmt="o" if criterion else "s",
            color=plotting.COLOURS[0 if criterion else 1],
            markersize=5,
            capsize=3,
        )
    ax.axvline(0, color="0.4", linewidth=0.8)
    ax.set_xlim(-1.05, 1.05)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_yticks(range(len(names)), prediction.PREDICTORS.values(), fontsize=9)
    ax.set_xlabel("Kendall's tau", fontsize=9)
    ax.grid(axis="x", alpha=0.3)
    ax.set_title(f"{pool[0].pool} [{pool[0].fidelity}]\n{checkpoints(pool[0])}", fontsize=10)
