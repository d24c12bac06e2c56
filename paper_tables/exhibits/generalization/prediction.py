"""Do Hessian criteria predict how accuracy changes with the data set, better than the loss does?

Section 4 of the paper reads K_H05 along a training as a sign of generalization. Here the change of
each criterion from the training data to the other data set is compared, checkpoint by checkpoint,
with the change of the accuracy, by Kendall's rank correlation. The loss on the new images, which
needs the same images and labels and no Hessian, is what a criterion has to beat; the accuracy on as
many new images as one batch has stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from paper_tables.engine.cells import METRIC_NAMES
from paper_tables.engine.records import FIDELITIES, config_hash
from paper_tables.evidence.resampling import UNKNOWN, Bounds, bounds, taus
from paper_tables.evidence.selection import grouped
from paper_tables.exhibits.generalization.runs import FEW_ACCURACY, SIDES, Run
from paper_tables.paper.names import display

BASELINE = "loss"
LOG_RATIO = ("re", "trace", "top_eigenvalue", "kappa")  # by decades during a training
CRITERIA = ("kh05", "kh1", "kh05_density", *LOG_RATIO)
# Predictor -> how it is printed; the loss comes first.
PREDICTORS = {
    BASELINE: "loss on the new data",
    FEW_ACCURACY: "accuracy on 64 new images",
    "loss_change": "change of the loss",
    **{
        name: f"{'log ratio' if name in LOG_RATIO else 'change'} of {METRIC_NAMES[name]}"
        for name in CRITERIA
    },
}
LEAST = 5  # no correlation is given for fewer checkpoints
FEW_RUNS = 3  # from this number of runs on, runs are resampled
RESAMPLES = 2000


@dataclass(frozen=True)
class Prediction:
    """What one predictor says in one pool of runs."""

    pool: str  # "LeNet"
    fidelity: str  # all fidelities of its runs, "paper, reduced"
    runs: tuple[str, ...]  # in words
    resampling: str  # "runs, then checkpoints" or "blocks of checkpoints in each run"
    predictor: str  # one of PREDICTORS
    n: int  # checkpoints
    tau: Bounds
    within: float  # tau over pairs of checkpoints of the same run
    difference: Bounds | None  # |tau| of the loss on the new data - |tau|; for criteria alone

    @property
    def winner(self) -> str:
        """Who predicts better: "loss wins", "criterion wins", "undecided"; "" for all others."""
        if self.difference is None:
            return ""
        if self.difference.low > 0:
            return "loss wins"
        return "criterion wins" if self.difference.high < 0 else "undecided"


def predictions(
    found: Sequence[Run], seed: int = 0, resamples: int = RESAMPLES
) -> list[Prediction]:
    """Compare every predictor with the change of accuracy, pool by pool.

    Args:
        found: the runs, the most important first.
        seed: of the resampling.
        resamples: how many.

    Returns:
        One prediction for each pool and predictor: first the single networks, then all together,
        pools on stand-in data last. Predictors without any checkpoint are left out.
    """
    usable = [run for run in found if len(_of_run(run))]
    return [
        prediction
        for pool, members in _pools(_independent(usable))
        for prediction in _of_pool(pool, members, seed, resamples)
    ]


def _independent(found: Sequence[Run]) -> list[Run]:
    """The runs, without those that have the same weights as an earlier, longer run."""

    def weights(run: Run) -> tuple[str, ...]:
        training = {key: value for key, value in run.training.items() if key != "epochs"}
        return (run.row, run.pair, run.trained_on, run.other, config_hash(training))

    return [same[0] for same in grouped(found, weights).values()]


def _pools(found: Sequence[Run]) -> list[tuple[str, list[Run]]]:
    pools = []
    for stand_ins in (False, True):
        mine = [run for run in found if (run.fidelity == "substitute") == stand_ins]
        by_row = grouped(mine, lambda run: run.row)
        pools += [(display(row), members) for row, members in by_row.items()]
        if len(by_row) > 1:
            pools.append(("all networks", mine))
    return pools


def _of_pool(pool: str, members: list[Run], seed: int, resamples: int) -> list[Prediction]:
    points = pd.concat([_of_run(run).assign(run=i) for i, run in enumerate(members)])
    words = {run.fidelity for run in members}
    found = []
    for name in PREDICTORS:
        there = points[np.isfinite(points[name])]
        if there.empty:
            continue
        rng = np.random.default_rng(seed)  # all predictors get the same resamples
        x, loss, y, run = (there[key].to_numpy() for key in (name, BASELINE, "accuracy", "run"))
        tau, within, difference = _compared(x, loss, y, run, rng, resamples)
        found.append(
            Prediction(
                pool=pool,
                fidelity=", ".join(word for word in FIDELITIES if word in words),
                runs=tuple(member.name for member in members),
                resampling=_resampling(run),
                predictor=name,
                n=len(run),
                tau=tau,
                within=within,
                difference=difference if name in CRITERIA else None,
            )
        )
    return found


def _compared(
    x: np.ndarray,
    loss: np.ndarray,
    y: np.ndarray,
    run: np.ndarray,
    rng: np.random.Generator,
    resamples: int,
) -> tuple[Bounds, float, Bounds]:
    """Tau of x and y, tau within runs, and |tau| of the loss and y minus |tau| of x and y."""
    if len(x) < LEAST:
        return UNKNOWN, math.nan, UNKNOWN
    counts = _resampled(run, rng, resamples)
    tau, base = (float(stats.kendalltau(values, y).statistic) for values in (x, loss))
    drawn, drawn_base = taus(counts, x, y), taus(counts, loss, y)
    within = taus(np.ones((1, len(x))), x, y, np.equal.outer(run, run))
    return (
        bounds(tau, drawn),
        float(within[0]),
        bounds(abs(base) - abs(tau), abs(drawn_base) - abs(drawn)),
    )


def _of_run(run: Run) -> pd.DataFrame:
    """The predictors and the change of accuracy of a run's checkpoints, one row each.

    A checkpoint counts if it is after epoch 0 and has accuracy and loss on both data sets and at
    least one criterion, so that the loss and the criteria are judged on the same checkpoints.
    """

    def change(metric: str) -> np.ndarray:
        here, there = (run.series(side, metric)[0] for side in SIDES)
        return _log_ratio(here, there) if metric in LOG_RATIO else there - here

    points = pd.DataFrame(
        {
            "accuracy": change("accuracy"),
            BASELINE: run.series(SIDES[1], BASELINE)[0],
            FEW_ACCURACY: run.series(SIDES[1], FEW_ACCURACY)[0],
            "loss_change": change("loss"),
            **{name: change(name) for name in CRITERIA},
        }
    )
    finite = np.isfinite(points)
    known = finite[list(CRITERIA)].any(axis=1) & finite[["accuracy", "loss_change"]].all(axis=1)
    return points[known & (run.epochs > 0)]


def _log_ratio(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    ratio = np.full(len(here), np.nan)
    both = (here > 0) & (there > 0)
    ratio[both] = np.log(there[both] / here[both])
    return ratio


def _resampling(run: np.ndarray) -> str:
    many = len(np.unique(run)) >= FEW_RUNS
    return "runs, then checkpoints" if many else "blocks of checkpoints in each run"


def _resampled(run: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """How often each checkpoint is drawn, [resamples, N].

    Args:
        run: of each checkpoint [N].
        rng: where the draws come from.
        resamples: how many.
    """
    names = np.unique(run)
    counts = np.zeros((resamples, len(run)))
    if len(names) >= FEW_RUNS:
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
        for i, name in enumerate(names):
            mine = np.flatnonzero(run == name)
            # a run that is drawn k times gives k samples of its n checkpoints: one sample of k n
            share = np.full(len(mine), 1 / len(mine))
            counts[:, mine] = rng.multinomial(drawn[:, i] * len(mine), share)
        return counts
    for name in names:
        mine = np.flatnonzero(run == name)
        # blocks of the order that suits the variance of a mean (Hall, Horowitz and Jing 1995)
        length = math.ceil(len(mine) ** (1 / 3))
        starts = rng.integers(len(mine), size=(resamples, -(-len(mine) // length)))
        chosen = (starts[:, :, None] + np.arange(length)) % len(mine)
        chosen = chosen.reshape(resamples, -1)[:, : len(mine)]
        np.add.at(counts, (np.arange(resamples)[:, None], mine[chosen]), 1)
    return counts


def headline(found: Sequence[Prediction]) -> str:
    """One sentence that says which predictor wins in the largest pool, on real data if possible."""
    pools = by_pool(found)
    real = [pool for pool in pools if "substitute" not in pool[0].fidelity]
    chosen = (real or pools)[-1]  # the last one holds all networks
    first = chosen[0]
    better, worse, unclear = (
        ", ".join(METRIC_NAMES[p.predictor] for p in chosen if p.winner == word)
        for word in ("criterion wins", "loss wins", "undecided")
    )
    if better:
        words = f"**{better} predicts better than the plain loss**"
        words += f", which wins against {worse}" if worse else ""
    elif worse:
        words = f"**The plain loss wins** against {worse if unclear else 'every criterion'}"
    else:
        words = "**Nobody wins**: between the plain loss and the criteria nothing is decided"
    if unclear and (better or worse):
        words += f"; against {unclear} nothing is decided"
    where = f"{first.pool}, {checkpoints(first)} [{first.fidelity}]"
    note = "" if real else " (stand-in data: this says nothing of the paper's)"
    return f"{words} ({where}: tau of the loss on the new data {first.tau}){note}."


def by_pool(found: Sequence[Prediction]) -> list[list[Prediction]]:
    """The predictions of each pool, those of stand-ins apart."""
    return list(grouped(found, lambda p: (p.pool, p.fidelity == "substitute")).values())


def checkpoints(prediction: Prediction) -> str:
    """The numbers of runs and checkpoints of a prediction, in words."""
    count = len(prediction.runs)
    return f"{count} run{'s' if count != 1 else ''}, {prediction.n} checkpoints"
