"""Whether a measure follows the generalization gap over a family of networks, from records.

Kendall's tau and Pearson's r of every measure with the gap, before and after the random rescaling,
with and without the published filter, which drops the three networks of smallest gap. Networks that
differ in their seed alone are alike, so intervals are percentiles of a bootstrap that draws ways to
train and then networks of each. A measure is compared with relative flatness on the same resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from paper_tables.engine.fidelity import least_faithful, rank
from paper_tables.engine.records import Record, config_hash
from paper_tables.evidence.resampling import (
    Bounds,
    bounds,
    counts_of,
    drawn_by_group,
    pearsons,
    taus,
)
from paper_tables.evidence.selection import by_cell, grouped
from paper_tables.exhibits.flatness.comparators import MEASURES
from paper_tables.exhibits.flatness.family import METRICS, TABLE

GAPS = {"gap_loss": "gap of the loss", "gap_accuracy": "gap of the accuracy"}
FIRST = "kappa"  # what all others are compared with
DROPPED = 3  # networks of the smallest gap, by the published filter
LEAST = 8 + DROPPED  # networks, below which nothing is computed
RESAMPLES = 2000


@dataclass(frozen=True)
class Members:
    """The networks of a family that were measured."""

    name: str  # of the data set
    fidelity: str
    values: pd.DataFrame  # one row a network, columns METRICS; index: its training in words
    errors: pd.DataFrame  # standard errors, NaN without one
    ways: np.ndarray  # [N] which way to train each has; equal ones differ in their seed alone
    records: tuple[Record, ...]

    @property
    def spread(self) -> dict[str, tuple[float, float]]:
        """Of each gap: its standard deviation over networks, and the mean standard error of one."""
        return {
            gap: (
                float(self.values[gap].std()),
                float(np.sqrt((self.errors[gap] ** 2).mean())),
            )
            for gap in GAPS
        }


@dataclass(frozen=True)
class Correlation:
    """How one measure follows one gap."""

    measure: str
    gap: str
    rescaled: bool
    filtered: bool
    n: int
    tau: Bounds
    p: float  # of tau = 0
    r: Bounds
    less_than_first: Bounds | None  # |tau| of kappa - |tau| of this; None for kappa itself

    @property
    def winner(self) -> str:
        """Which of the two follows the gap more closely: "kappa", "other", "undecided", ""."""
        if self.less_than_first is None:
            return ""
        if self.less_than_first.low > 0:
            return "kappa"
        return "other" if self.less_than_first.high < 0 else "undecided"


def members(records: Sequence[Record]) -> list[Members]:
    """The families that were measured, the most faithful first.

    Of networks of one data set that were trained in different ways (images, target, widths), the
    largest number of equal ones counts.
    """
    cells = by_cell(records, TABLE).items()
    whole = [(cell, metrics) for cell, metrics in cells if metrics.keys() >= set(METRICS)]
    families = grouped(whole, lambda item: (item[0][0], _kind(item[1][FIRST])))
    found: dict[str, Members] = {}
    for (name, _), mine in families.items():
        one = _members(name, mine)
        if name not in found or len(one.values) > len(found[name].values):
            found[name] = one
    return sorted(found.values(), key=lambda each: (rank(each.fidelity), each.name))


def _kind(record: Record) -> str:
    """What networks of a family share: everything but what the grid of trainings varies."""
    varied = ("lr", "batch_size", "weight_decay", "seed")
    training = {k: v for k, v in record.config["training"].items() if k not in varied}
    rest = {k: v for k, v in record.config.items() if k not in ("training", "batch_size", "seed")}
    return config_hash({**rest, "training": training})


def _members(name: str, mine: Sequence[tuple[tuple[str, str, str], dict[str, Record]]]) -> Members:
    index = [column for (_, column, _), _ in mine]

    def frame(field: str) -> pd.DataFrame:
        rows = [
            [np.nan if (v := getattr(metrics[m], field)) is None else v for m in METRICS]
            for _, metrics in mine
        ]
        return pd.DataFrame(rows, index=index, columns=list(METRICS), dtype=float)

    used = tuple(metrics[m] for _, metrics in mine for m in METRICS)
    fidelity = least_faithful(record.fidelity for record in used)
    trainings = [metrics[FIRST].config["training"] for _, metrics in mine]
    ways = [config_hash({k: v for k, v in each.items() if k != "seed"}) for each in trainings]
    number = {way: i for i, way in enumerate(dict.fromkeys(ways))}
    numbers = np.array([number[way] for way in ways])
    return Members(name, fidelity, frame("value"), frame("stderr"), numbers, used)


def correlations(
    family: Members, gap: str = "gap_loss", *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Correlation]:
    """Every measure, as it is and rescaled, with all networks and without the filter's.

    Args:
        family: the networks.
        gap: "gap_loss" or "gap_accuracy".
        resamples: the same for all measures.
        seed: of the resamples.

    Returns:
        Nothing for less than `LEAST` networks.
    """
    found: list[Correlation] = []
    if len(family.values) < LEAST:
        return found
    for filtered in (False, True):
        gaps = family.values[gap]
        kept = ~family.values.index.isin(gaps.nsmallest(DROPPED if filtered else 0).index)
        values, n = family.values[kept], int(kept.sum())
        drawn = drawn_by_group(family.ways[kept], resamples, seed)
        if drawn is None:
            drawn = np.empty((0, n), int)
        counts, y = counts_of(drawn, n), values[gap].to_numpy()
        for rescaled in (False, True):
            prefix = "rescaled_" if rescaled else ""
            first = values[prefix + FIRST].to_numpy()
            base, base_drawn = float(stats.kendalltau(first, y).statistic), taus(counts, first, y)
            for name in MEASURES:
                x = values[prefix + name].to_numpy()
                kendall, tau_drawn = stats.kendalltau(x, y), taus(counts, x, y)
                tau, less = float(kendall.statistic), None
                if name != FIRST:
                    less = bounds(abs(base) - abs(tau), abs(base_drawn) - abs(tau_drawn))
                r = float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) > 0 else math.nan
                found.append(
                    Correlation(
                        name, gap, rescaled, filtered, n, bounds(tau, tau_drawn),
                        float(kendall.pvalue), bounds(r, pearsons(x[drawn], y[drawn])), less,
                    )
                )  # fmt: skip
    return found


def best(
    found: Sequence[Correlation], rescaled: bool = False, filtered: bool = False
) -> Correlation:
    """The measure that follows the gap most closely, by |tau|."""
    mine = [c for c in found if (c.rescaled, c.filtered) == (rescaled, filtered)]
    return max(mine, key=lambda c: abs(c.tau.value) if math.isfinite(c.tau.value) else -1.0)


def verdict(found: Sequence[Correlation], rescaled: bool = False) -> str:
    """Which measure wins, and whether by more than chance, in a sentence."""
    mine = [c for c in found if (c.rescaled, c.filtered) == (rescaled, False)]
    first = next(c for c in mine if c.measure == FIRST)
    top = best(found, rescaled)
    better = [MEASURES[c.measure] for c in mine if c.winner == "other"]
    worse = [MEASURES[c.measure] for c in mine if c.winner == "kappa"]
    words = f"{MEASURES[top.measure]} has the largest |tau|, {top.tau}"
    if top.measure != FIRST:
        words += f", against {first.tau} of kappa"
    words += "; by more than chance kappa is beaten by " + (", ".join(better) or "none")
    return f"{words} and beats {', '.join(worse) or 'none'} ({first.n} networks)"
