"""Whether a measure follows the generalization gap over a family of networks, from records.

Kendall's tau and Pearson's r of every measure with the gap, before and after the random rescaling,
with and without the published filter, which drops the three networks of smallest gap. Intervals are
percentiles of a bootstrap over networks. A measure is compared with relative flatness on the same
resamples.
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
from paper_tables.evidence.selection import by_cell, grouped
from paper_tables.exhibits.flatness.comparators import MEASURES
from paper_tables.exhibits.flatness.family import METRICS, TABLE

GAPS = {"gap_loss": "gap of the loss", "gap_accuracy": "gap of the accuracy"}
FIRST = "kappa"  # what all others are compared with
DROPPED = 3  # networks of the smallest gap, by the published filter
LEAST = 8 + DROPPED  # networks, below which nothing is computed
RESAMPLES = 2000


@dataclass(frozen=True)
class Bounds:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if not math.isfinite(self.value):
            return "—"
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


@dataclass(frozen=True)
class Members:
    """The networks of a family that were measured."""

    name: str  # of the data set
    fidelity: str
    values: pd.DataFrame  # one row a network, columns METRICS; index: its training in words
    errors: pd.DataFrame  # standard errors, NaN without one
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
    return Members(name, fidelity, frame("value"), frame("stderr"), used)


def correlations(
    family: Members, gap: str = "gap_loss", *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Correlation]:
    """Every measure, as it is and rescaled, with all networks and without the filter's.

    Args:
        family: the networks.
        gap: "gap_loss" or "gap_accuracy".
        resamples: of networks, the same for all measures.
        seed: of the resamples.

    Returns:
        Nothing for less than `LEAST` networks.
    """
    found: list[Correlation] = []
    if len(family.values) < LEAST:
        return found
    for filtered in (False, True):
        values = family.values
        if filtered:
            values = values.drop(values[gap].nsmallest(DROPPED).index)
        n = len(values)
        drawn = np.random.default_rng(seed).integers(n, size=(resamples, n))
        y = values[gap].to_numpy()
        for rescaled in (False, True):
            prefix = "rescaled_" if rescaled else ""
            base, base_drawn = _taus(values[prefix + FIRST].to_numpy(), y, drawn)
            for name in MEASURES:
                x = values[prefix + name].to_numpy()
                tau, taus = (base, base_drawn) if name == FIRST else _taus(x, y, drawn)
                less = None
                if name != FIRST:
                    less = _bounds(abs(base) - abs(tau), abs(base_drawn) - abs(taus))
                r = float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) > 0 else math.nan
                found.append(
                    Correlation(
                        name, gap, rescaled, filtered, n, _bounds(tau, taus),
                        float(stats.kendalltau(x, y).pvalue),
                        _bounds(r, _pearsons(x, y, drawn)), less,
                    )
                )  # fmt: skip
    return found


def _taus(x: np.ndarray, y: np.ndarray, drawn: np.ndarray) -> tuple[float, np.ndarray]:
    """Kendall's tau-b, and that of every resample [B]."""
    signs = [np.sign(np.subtract.outer(v, v)) for v in (x, y)]

    def total(product: np.ndarray) -> np.ndarray:
        counts = np.zeros((len(drawn), len(x)))
        np.add.at(counts, (np.arange(len(drawn))[:, None], drawn), 1)
        return ((counts @ product) * counts).sum(1)

    scale = np.sqrt(total(signs[0] ** 2) * total(signs[1] ** 2))
    taus = np.divide(
        total(signs[0] * signs[1]), scale, out=np.full(len(drawn), np.nan), where=scale > 0
    )
    return float(stats.kendalltau(x, y).statistic), taus


def _pearsons(x: np.ndarray, y: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    a, b = (v[drawn] - v[drawn].mean(1, keepdims=True) for v in (x, y))
    scale = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.divide((a * b).sum(1), scale, out=np.full(len(drawn), np.nan), where=scale > 0)


def _bounds(value: float, drawn: np.ndarray) -> Bounds:
    known = drawn[np.isfinite(drawn)]
    if not known.size or not math.isfinite(value):
        return Bounds(math.nan, math.nan, math.nan)
    low, high = np.percentile(known, (2.5, 97.5))
    return Bounds(value, float(low), float(high))


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
