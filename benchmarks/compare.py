"""Compare the last session of benchmarks with earlier ones: `python -m benchmarks.compare`.

Seconds are not compared, because they depend on the machine. The comparison fails if a ratio to the
calibration kernel rose by more than the tolerance and the noise, or if products or memory rose.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import history
from lla.errors import InputError
from lla.report.text import plain_table

TOLERANCE = 0.15  # a ratio may rise by this share of its baseline, in addition to the noise
SIGMAS = 2.0  # standard errors that count as noise; with the tolerance, 3 or more of them
MEMORY = 0.10  # memory may grow by this share
SLACK = 16 * 2**20  # bytes: variation by the allocator and the libraries' own buffers
_NORMAL = 1.349  # quartile range of a normal distribution, in standard deviations
_MEDIAN = 1.2533  # standard error of a median / standard error of a mean
_ENOUGH = 3  # from this number of sessions on, their scatter is known


@dataclass(frozen=True)
class Comparison:
    """One quantity of one benchmark against its baseline."""

    benchmark: str
    size: str
    quantity: str  # ratio, products, memory
    now: float
    baseline: float  # NaN: no earlier session has it
    limit: float

    @property
    def worse(self) -> bool:
        """Whether it is beyond its limit."""
        return self.now > self.limit


def compare(rows: pd.DataFrame, tolerance: float = TOLERANCE) -> list[Comparison]:
    """Compare the last session with the median of earlier sessions like it.

    Args:
        rows: of all sessions, see `benchmarks.history.read`.
        tolerance: a ratio may rise by this share of its baseline.

    Returns:
        One comparison for each quantity and benchmark of the last session. Sessions are alike if
        they have the same kind of device and processor, version of torch, threads, type, allocator.

    Raises:
        InputError: there is no session.
    """
    if rows.empty:
        raise InputError("there is no session to compare: run the benchmarks with --save")
    earlier = rows[rows.date < rows.date.max()]
    found = []
    for _, row in rows[rows.date == rows.date.max()].iterrows():
        alike = earlier[(earlier[history.SAME] == row[history.SAME]).all(axis=1)]
        limits = (  # a quantity may rise by this share plus this amount
            ("ratio", "ratio", tolerance, SIGMAS * noise(row, alike)),
            ("products", "products", 0.0, 0.0),
            ("memory", "peak_bytes", MEMORY, SLACK),
        )
        for quantity, column, share, room in limits:
            if not pd.isna(row[column]):
                base = float(alike[column].astype(float).median())
                now, limit = float(row[column]), base * (1 + share) + room
                found.append(Comparison(row.benchmark, row["size"], quantity, now, base, limit))
    return found


def noise(row: pd.Series, before: pd.DataFrame) -> float:
    """Standard error of the difference between a session's ratio and the median of earlier ones.

    NaN without earlier sessions. With three or more, their scatter counts if it is larger than the
    scatter within a session: all repetitions in a process share one layout of memory.
    """
    if before.empty:
        return math.nan
    own = _standard_error(row.low, row.high, row.rounds)
    theirs = float(_standard_error(before.low, before.high, before.rounds).median())
    if len(before) >= _ENOUGH:
        middle = before.ratio.median()
        scatter = 1.4826 * float(np.median(np.abs(before.ratio - middle)))
        own, theirs = max(own, scatter), max(theirs, scatter)
    return math.hypot(own, _MEDIAN * theirs / math.sqrt(len(before)))


def _standard_error(low: Any, high: Any, rounds: Any) -> Any:
    """Standard error of the median of a session's repetitions, from quartiles; works on columns."""
    return _MEDIAN * (high - low) / _NORMAL / rounds**0.5


def describe(found: Sequence[Comparison]) -> str:
    """The comparisons as a table for the terminal, the worst last."""
    lines = [
        (
            f.benchmark,
            f.size,
            f.quantity,
            *(_shown(f, value) for value in (f.now, f.baseline, f.limit)),
            "no earlier session" if math.isnan(f.baseline) else "WORSE" if f.worse else "",
        )
        for f in sorted(found, key=lambda f: f.worse)
    ]
    headers = ("benchmark", "size", "quantity", "now", "median before", "limit", "")
    return plain_table(lines, headers)


def _shown(compared: Comparison, value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value / 2**20:.0f} MiB" if compared.quantity == "memory" else f"{value:.4g}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, and print the result.

    Args:
        arguments: of the command line.

    Returns:
        1 if anything is worse, else 0.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, metavar="SHARE")
    options = parser.parse_args(arguments)
    try:
        found = compare(history.read(options.folder), options.tolerance)
    except InputError as error:
        parser.error(str(error))
    worse = sum(finding.worse for finding in found)
    known = sum(not math.isnan(finding.baseline) for finding in found)
    sys.stdout.write(f"{describe(found)}\n\n{worse} of {known} compared quantities are worse\n")
    return int(worse > 0)


if __name__ == "__main__":
    sys.exit(main())
