"""A cell of a table: what it is, how it is computed, and how its value is judged."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from lla.estimate import Estimate
from lla.files import sha256_of_bytes
from paper_tables.engine import records
from paper_tables.engine.profiles import PROFILES, Profile
from paper_tables.engine.records import Record
from paper_tables.engine.session import SessionCache
from paper_tables.paper import paper_value

# Metric -> how it is printed. Those that the paper prints come first.
METRIC_NAMES = {
    "kh1": "K_H1",
    "kh05": "K_H05",
    "re": "r_e",
    "accuracy": "accuracy (%)",
    "kh05_density": "K_H05 (density)",
    "negative_share": "negative share",
    "loss": "loss",
    "training_accuracy": "training accuracy (%)",
    "spread_eigenvalues": "spread of eigenvalues",
    "spread_weights": "spread of weights",
    "spread_re": "spread of r_e",
    "spread_kh1": "spread of K_H1",
    "spread_kh05": "spread of K_H05",
    "kh05_probes": "scatter of K_H05 over probes",
    "kh05_batches": "scatter of K_H05 over batches",
    "kh05_range_probes": "single runs of K_H05 apart",
    "kh05_range_batches": "single batches of K_H05 apart",
    "ratio": "ratio",
    "nonfinite": "points not finite",
    "center": "loss at the centre",
    "center_error": "error at the centre",
    "asymmetry": "asymmetry",
    "sublevel_points": "points below the cap",
    "asymmetry_wide": "asymmetry, wide cap",
    "sublevel_points_wide": "points below the wide cap",
    "change": "change of the output at the edge",
    "rise": "mean rise of the loss",
    "difference": "largest relative difference",
    "top_eigenvalue": "largest eigenvalue",
    "test_accuracy": "test accuracy (%)",
    "median_training": "median loss on the plane, training data",
    "median_generalization": "median loss on the plane, other data",
    "median_change": "change of the median loss on the plane",
    "roughness_training": "roughness of the plane, training data",
    "roughness_generalization": "roughness of the plane, other data",
    "roughness_change": "change of the roughness of the plane",
    "trace": "trace",
    "accuracy_few": "accuracy on 64 images (%)",
    "kappa": "kappa",
}


@dataclass(frozen=True)
class Settings:
    """What a session of the suites was asked to do."""

    profile: Profile
    results: Path  # published records, tables, figures
    work: Path  # trained weights, checkpoints, the journal of this checkout
    data_root: Path | None = None  # None: LLA_DATA
    device: str = "cpu"
    recompute: bool = False
    strict_paper: bool = False
    download: bool = False  # fetch a data set that is not found
    cache: SessionCache = dataclasses.field(  # of this session alone
        default_factory=SessionCache, init=False, repr=False, compare=False
    )


@dataclass(frozen=True)
class SharedStep:
    """A step that several cells need, such as training; it keeps its own result on disk."""

    name: str
    seconds: float  # estimate, on 2 CPU cores
    run: Callable[[Settings], str]  # returns its outcome in words

    @property
    def slug(self) -> str:
        """Its name in letters that every file system takes."""
        return re.sub(r"[^0-9a-z]+", "-", self.name.lower())


@dataclass(frozen=True)
class Cell:
    """One cell: its place, its configuration, and a function that computes its records.

    `config` holds everything that determines the values and nothing else (no threads, no
    versions): its hash decides what is finished and which records are compared.
    """

    table: str
    row: str
    column: str
    name: str  # for people and pytest: "lenet-random-eval-torch-plain"
    metrics: tuple[str, ...]  # a computed cell yields exactly these
    config: Mapping[str, Any]
    fidelity: str | None
    inputs: str  # in words
    compute: Callable[[Cell, Settings], list[Record]] | None = None  # None: cannot run
    reason: str | None = None  # why it cannot run
    stage: int = 0  # cells of a lower stage run first
    seconds: float = 0.0  # estimate, on 2 CPU cores
    memory: int = 0  # estimate, bytes
    shared: SharedStep | None = None  # runs first, once for all cells that share it
    # Sets the verdicts that need more than the comparison of two numbers; None: there are none.
    judge: Callable[[Cell, Sequence[Record]], list[Record]] | None = None

    @property
    def hash(self) -> str:
        """Hash of the configuration."""
        return records.config_hash(self.config)

    @property
    def place(self) -> tuple[str, str, str, str]:
        """What distinguishes it from all other cells: table, row, column and configuration."""
        return (self.table, self.row, self.column, self.hash)

    @property
    def label(self) -> str:
        """A name for files that no other cell has."""
        return f"{self.table}-{self.name}-{sha256_of_bytes(repr(self.place))[:8]}"

    def absent(
        self,
        reason: str,
        metrics: tuple[str, ...] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> Cell:
        """A copy of this cell that cannot run.

        Args:
            reason: why it cannot run.
            metrics: those whose absence is recorded; by default all.
            config: identifies the cell; its place by default, because it has no values.
        """
        return dataclasses.replace(
            self,
            metrics=self.metrics if metrics is None else metrics,
            config={"row": self.row, "column": self.column} if config is None else config,
            fidelity=None,
            inputs="",
            compute=None,
            reason=reason,
        )

    def record(
        self, metric: str, value: float, stderr: float | None = None, **facts: Any
    ) -> Record:
        """The record of one of this cell's values, judged against the paper.

        Args:
            metric: one of `metrics`.
            value: the value.
            stderr: its standard error, if it has one.
            facts: further fields of the record.

        Returns:
            The record, with the settings from `config`.
        """
        paper = paper_value(self.table, self.row, self.column, metric)
        judged = verdict(value, stderr, paper, metric, self.fidelity)
        if metric == "kh05" and self.config.get("m") != PROFILES["paper"].steps:
            judged = None  # the criterion depends on the number of steps
        return self._record(
            metric=metric,
            value=value,
            stderr=stderr,
            paper_value=paper,
            verdict=judged,
            **facts,
        )

    def estimated(self, metric: str, estimate: Estimate, **facts: Any) -> Record:
        """The record of an estimate, with its value, standard error and number of samples."""
        return self.record(metric, estimate.value, estimate.stderr, n=estimate.n, **facts)

    def not_run(self) -> list[Record]:
        """The records that say why this cell has no values."""
        return [
            self._record(
                metric=metric,
                value=None,
                paper_value=paper_value(self.table, self.row, self.column, metric),
                verdict="not_run",
                reason=self.reason,
            )
            for metric in self.metrics
        ]

    def _record(self, **facts: Any) -> Record:
        names = ("seed", "dtype", "m", "probes", "batches", "batch_size", "legacy")
        settings = {name: self.config[name] for name in names if name in self.config}
        return Record(
            table=self.table,
            row=self.row,
            column=self.column,
            fidelity=self.fidelity,
            config=self.config,
            **{**settings, **facts},
        )


def settings_key(record: Record) -> tuple[object, ...]:
    """What two records must share to be compared: data, size, steps, probes, seed, type."""
    data = record.data.name if record.data else None
    return (data, record.config.get("side"), record.batches, record.batch_size, record.m,
            record.probes, record.seed, record.dtype)  # fmt: skip


def half_unit(printed: str) -> float:
    """Half a unit of the last printed digit.

    >>> half_unit("0.37"), half_unit("5e-4"), half_unit("451")
    (0.005, 5e-05, 0.5)
    """
    exponent = Decimal(printed).as_tuple().exponent
    if not isinstance(exponent, int):
        raise ValueError(f"{printed!r} is no finite number: give a value as the paper prints it")
    return float(Decimal(1).scaleb(exponent) / 2)


def verdict(
    value: float | None,
    stderr: float | None,
    paper: str | None,
    metric: str,
    fidelity: str | None,
) -> str | None:
    """Judge a value against the paper's.

    `reproduced` is agreement within 2 standard errors and half a unit of the paper's last digit.
    `close` is agreement within the paper's own scatter, that is, what its two measurements of one
    network differ by: 15 % for K_H1, 30 % for K_H05, a factor of 3 for r_e, and the standard
    deviation of a share of 64 images for an accuracy.

    Args:
        value: what was measured; None if it was not run.
        stderr: its standard error; None counts as 0.
        paper: the paper's value as printed; None if it prints none.
        metric: the name of the metric; accuracies are in percent.
        fidelity: "paper", "reduced" or "substitute".

    Returns:
        "reproduced", "close", "differs" or "not_run"; None where there is nothing to judge: the
        paper prints no value, or the cell is a substitute.

    >>> verdict(0.36, 0.01, "0.37", "kh1", "paper")
    'reproduced'
    >>> verdict(0.4, 0.01, "0.37", "kh1", "paper")
    'close'
    """
    if value is None:
        return "not_run"
    if paper is None or fidelity == "substitute":
        return None
    expected = float(paper)
    difference = abs(value - expected)
    # A little slack, so that a value on the boundary does not depend on binary rounding.
    slack = 1e-9 * max(abs(value), abs(expected))
    if difference <= 2 * (stderr or 0.0) + half_unit(paper) + slack:
        return "reproduced"
    return "close" if _within_scatter(value, expected, metric, slack) else "differs"


def _within_scatter(value: float, expected: float, metric: str, slack: float) -> bool:
    difference = abs(value - expected)
    if metric == "kh1":
        return difference <= 0.15 * abs(expected) + slack
    if metric == "kh05":
        return difference <= 0.30 * abs(expected) + slack
    if metric == "re":
        return expected / 3 - slack <= value <= expected * 3 + slack
    if metric == "accuracy":
        share = expected / 100
        return difference <= 100 * math.sqrt(share * (1 - share) / 64) + slack
    return False
