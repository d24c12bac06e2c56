"""Correlations and their 95 % intervals, the percentiles of resamples (bootstrap)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Bounds:
    """A value and its 95 % interval; what cannot be computed is NaN."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if not math.isfinite(self.value):
            return "—"
        if not math.isfinite(self.low):
            return f"{self.value:+.2f}"
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


UNKNOWN = Bounds(math.nan, math.nan, math.nan)


def bounds(value: float, drawn: np.ndarray) -> Bounds:
    """A value with the percentiles of its resamples, without those that have none.

    >>> bounds(0.5, np.array([0.4, np.nan, 0.6])).low
    0.405
    """
    if not math.isfinite(value):
        return UNKNOWN
    known = drawn[np.isfinite(drawn)]
    if not known.size:
        return Bounds(value, math.nan, math.nan)
    low, high = np.percentile(known, (2.5, 97.5))
    return Bounds(value, float(low), float(high))


LEAST_GROUPS = 4  # fewer do not say how much groups differ


def drawn_by_group(groups: np.ndarray, resamples: int, seed: int = 0) -> np.ndarray | None:
    """Resamples [B, N'] of points that come in groups of similar ones: their indices.

    Groups are drawn, and then points of each, as many as a group has on average. Where every group
    is one point this is the ordinary bootstrap.

    Args:
        groups: which group each point belongs to [N].
        resamples: B.
        seed: of the draws.

    Returns:
        None for fewer than `LEAST_GROUPS`.

    >>> drawn_by_group(np.array([7, 7, 8, 9, 6]), 2).shape
    (2, 4)
    """
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    count = len(members)
    if count < LEAST_GROUPS:
        return None
    rng, each = np.random.default_rng(seed), len(groups) // count
    kinds = rng.integers(count, size=(resamples, count))
    own = np.stack([rng.choice(found, (resamples, count, each)) for found in members])
    rows, places = np.arange(resamples)[:, None], np.arange(count)
    return own[kinds, rows, places].reshape(resamples, -1)


def counts_of(drawn: np.ndarray, size: int) -> np.ndarray:
    """How often each of N points is drawn in each resample [B, N].

    Args:
        drawn: indices of the points that were drawn [B, any number].
        size: N.

    >>> counts_of(np.array([[0, 0, 2]]), 3).tolist()
    [[2.0, 0.0, 1.0]]
    """
    counts = np.zeros((len(drawn), size))
    np.add.at(counts, (np.arange(len(drawn))[:, None], drawn), 1)
    return counts


def taus(
    counts: np.ndarray, x: np.ndarray, y: np.ndarray, pairs: np.ndarray | None = None
) -> np.ndarray:
    """Kendall's tau-b of every resample [B], NaN where one of the two is constant.

    Args:
        counts: how often each point is drawn [B, N].
        x: values [N].
        y: values [N].
        pairs: which pairs of points count [N, N]; all by default.
    """
    sx, sy = (np.sign(np.subtract.outer(values, values)) for values in (x, y))
    if pairs is not None:
        sx, sy = sx * pairs, sy * pairs

    def total(signs: np.ndarray) -> np.ndarray:
        return ((counts @ signs) * counts).sum(1)

    return _over(total(sx * sy), np.sqrt(total(sx**2) * total(sy**2)))


def pearsons(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's r of every row [B], NaN where one of the two is constant.

    Args:
        x: resampled values [B, N], or their ranks for Spearman's correlation.
        y: the same of the other.
    """
    a, b = (values - values.mean(1, keepdims=True) for values in (x, y))
    return _over((a * b).sum(1), np.sqrt((a**2).sum(1) * (b**2).sum(1)))


def _over(product: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The quotients, NaN where the divisor is zero."""
    return np.divide(product, scale, out=np.full(len(product), np.nan), where=scale > 0)
