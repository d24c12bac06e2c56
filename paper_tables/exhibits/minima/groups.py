"""Minima of one task as groups: the natural ones and those of each share of poison."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from lla.estimate import Estimate
from paper_tables.engine.exhibit import MissingError, Records, Verdict
from paper_tables.engine.records import Record, config_hash
from paper_tables.evidence.criteria import missing, value_of
from paper_tables.evidence.resampling import UNKNOWN, Bounds, bounds, drawn_by_group, pearsons
from paper_tables.evidence.selection import by_cell, grouped
from paper_tables.exhibits.minima.cells import TABLE
from paper_tables.exhibits.minima.measured import COMPARED, FLATTER, INDEX
from paper_tables.exhibits.minima.tasks import GOOD, TASKS, task

LEAST = 6  # poisoned minima, below which no rank correlation is given
RESAMPLES = 2000
LOSS = "training_loss"
UNEQUAL = 10.0  # a ratio of training losses, from which on curvatures are not compared

Metrics = dict[str, Record]


@dataclass(frozen=True)
class Group:
    """The networks of one way to train, from different seeds."""

    row: str
    variant: str
    share: float
    tried: tuple[Metrics, ...]  # in the order of seeds

    @property
    def reached(self) -> tuple[Metrics, ...]:
        """Those that came to a minimum and were measured."""
        return tuple(m for m in self.tried if INDEX in m)

    @property
    def count(self) -> str:
        """How many came to a minimum, of those that were tried."""
        return f"{len(self.reached)} of {len(self.tried)}"

    @property
    def fidelity(self) -> str:
        """Of its records."""
        return next(iter(self.tried[0].values())).fidelity or ""

    def values(self, metric: str) -> np.ndarray:
        """A number of each network that came to a minimum."""
        return np.array([value_of(m[metric]) for m in self.reached])

    def mean(self, metric: str) -> Estimate:
        """The mean over networks, with its standard error."""
        return Estimate.of(self.values(metric), 0)

    @property
    def records(self) -> tuple[Record, ...]:
        """All of them."""
        return tuple(record for metrics in self.tried for record in metrics.values())


def groups(records: Records) -> dict[str, list[Group]]:
    """The groups of each task, the natural one first, then by the share of poison.

    Of networks that were trained in different ways, those count of which most were tried, whether
    or not they came to a minimum; and only those that were measured in the same way, by which most
    of the task were.
    """
    found: dict[str, dict[str, Group]] = {}
    cells = grouped(by_cell(records, TABLE).items(), lambda item: _kind(item[1]))
    ways = Counter(_way(metrics) for same in cells.values() for _, metrics in same)
    for same in cells.values():
        first = next(iter(same[0][1].values()))
        mine = _way(same[0][1])
        if any(way[0] == mine[0] and count > ways[mine] for way, count in ways.items()):
            continue
        row, variant, share = first.row, first.config["variant"], first.config["share"]
        same.sort(key=lambda item: next(iter(item[1].values())).config["seed"])
        one = Group(row, variant, share, tuple(metrics for _, metrics in same))
        known = found.setdefault(row, {}).get(variant)
        if known is None or len(one.tried) > len(known.tried):
            found[row][variant] = one
    order = [each.name for each in TASKS]
    return {
        row: sorted(found[row].values(), key=lambda g: (g.variant != GOOD, g.share, g.variant))
        for row in sorted(found, key=order.index)
    }


def _kind(metrics: Metrics) -> str:
    record = next(iter(metrics.values()))
    rest = {k: v for k, v in record.config.items() if k != "seed"}
    return config_hash({"row": record.row, **rest})


def _way(metrics: Metrics) -> tuple[str, str]:
    """The task, and how radii were measured; only equal ones may be compared."""
    record = next(iter(metrics.values()))
    same = ("cutoff", "directions", "reach", "images", "m", "probes", "dtype", "mode")
    return record.row, config_hash({name: record.config.get(name) for name in same})


def pair(records: Records, row: str) -> tuple[Group, Group, list[Group]]:
    """The natural group of a task, the one of the strongest poison, and all poisoned ones.

    Raises:
        MissingError: there are fewer than two minima of a kind, or the strongest poison of the task
            was not tried.
    """
    tried = groups(records).get(row, [])
    strongest = max(variant.share for variant in task(row).variants)
    if tried and max(group.share for group in tried) < strongest:
        raise missing(
            f"poison with b = {strongest:g} of {row} (--real-data takes data sets that are found)"
        )
    mine = [group for group in tried if len(group.reached) > 1]
    good = next((group for group in mine if group.variant == GOOD), None)
    bad = [group for group in mine if group.share > 0]
    if good is None or not bad:
        raise lacking(row)
    return good, bad[-1], bad


def lacking(row: str) -> MissingError:
    """Too few minima of a task."""
    return missing(
        f"two natural and two poisoned minima of {row} (--real-data takes data sets that are found)"
    )


@dataclass(frozen=True)
class Telling:
    """How a measure tells good minima from bad, and orders the bad ones."""

    metric: str
    area: float  # share of pairs of a good and a bad minimum in the right order
    ratio: float  # geometric mean of the bad over that of the good; difference for the index
    rho: Bounds  # Spearman with the test accuracy, within the bad, larger meaning flatter
    n: int  # bad minima


def unequal_losses(good: Group, bad: Sequence[Group]) -> str:
    """That curvatures cannot be compared, as the training losses are too different; else empty."""
    one = _geometric(good.values(LOSS))
    other = _geometric(np.concatenate([group.values(LOSS) for group in bad]))
    if max(one / other, other / one) < UNEQUAL:
        return ""
    return (
        f"; the training losses are {one:.1g} and {other:.1g}, and kappa, the trace and "
        "eigenvalues fall with the loss"
    )


def _geometric(values: np.ndarray) -> float:
    return math.exp(float(np.log(values).mean()))


def telling(good: Group, bad: Sequence[Group]) -> list[Telling]:
    """Every measure, in the order of `COMPARED`.

    Args:
        good: the natural minima.
        bad: the groups of poisoned ones.
    """
    accuracy = np.concatenate([group.values("test_accuracy") for group in bad])
    shares = np.concatenate([np.full(len(group.reached), group.share) for group in bad])
    found = []
    for metric in COMPARED:
        sign = 1.0 if metric in FLATTER else -1.0
        g, b = good.values(metric), np.concatenate([group.values(metric) for group in bad])
        area = float(_right(good, bad, metric).mean())
        ratio = float(b.mean() - g.mean()) if metric == INDEX else _geometric(b) / _geometric(g)
        rho = rank_correlation(sign * b, accuracy, shares)
        found.append(Telling(metric, area, ratio, rho, len(b)))
    return found


def _right(good: Group, bad: Sequence[Group], metric: str) -> np.ndarray:
    """Whether a measure orders each pair [good, bad] rightly: 1, 0, or 1/2 where both are equal."""
    sign = 1.0 if metric in FLATTER else -1.0
    b = np.concatenate([group.values(metric) for group in bad])
    found: np.ndarray = (np.sign(sign * np.subtract.outer(good.values(metric), b)) + 1) / 2
    return found


def as_well(good: Group, bad: Sequence[Group], metric: str) -> Verdict:
    """Whether a measure orders as many pairs of a good and a bad minimum as the index does.

    Returns:
        `holds` where it orders as many or more, `fails` where the 95 % interval of the difference
        (bootstrap over networks) lies below 0, else `undecided`; so also where it is NaN.
    """
    less = _right(good, bad, metric) - _right(good, bad, INDEX)
    if less.mean() >= 0:
        return "holds"
    rng = np.random.default_rng(0)
    rows, columns = (rng.integers(n, size=(RESAMPLES, n)) for n in less.shape)
    means = less[rows[:, :, None], columns[:, None, :]].mean((1, 2))
    return "fails" if np.percentile(means, 97.5) < 0 else "undecided"


def rank_correlation(x: np.ndarray, y: np.ndarray, shares: np.ndarray) -> Bounds:
    """Spearman's correlation over networks and its 95 % interval; NaN where there is none.

    Networks of one share of poison are alike, so the bootstrap draws shares and networks of each.

    Args:
        x: a number of each network [N].
        y: another [N].
        shares: of poison [N]; with fewer than `LEAST_GROUPS` there is no interval.
    """
    if len(x) < LEAST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return UNKNOWN
    value = float(stats.spearmanr(x, y).statistic)
    drawn = drawn_by_group(shares, RESAMPLES)
    if drawn is None:
        return Bounds(value, math.nan, math.nan)
    ranks = (stats.rankdata(values[drawn], axis=1) for values in (x, y))
    return bounds(value, pearsons(*ranks))
