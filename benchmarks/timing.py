"""Timings that can be compared: both sides of a ratio alternate within one run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch


@dataclass(frozen=True)
class Ratio:
    """The seconds of one function over those of another, pair by pair."""

    median: float
    low: float  # first quartile
    high: float  # third quartile
    rounds: int

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray) -> Ratio:
        """The ratio of two functions, from their seconds [rounds] in turn.

        >>> Ratio.of(np.array([2.0, 4.0, 9.0]), np.array([1.0, 2.0, 3.0])).median
        2.0
        """
        low, median, high = np.percentile(first / second, (25, 50, 75))
        return cls(float(median), float(low), float(high), len(first))


T = TypeVar("T")


def timed(function: Callable[[], T]) -> tuple[T, float]:
    """What a call returns, and its seconds, which include the device's work."""
    synchronize = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    synchronize()
    start = time.perf_counter()
    result = function()
    synchronize()
    return result, time.perf_counter() - start


def in_turn(functions: Sequence[Callable[[], object]], rounds: int, warmup: int) -> np.ndarray:
    """Seconds of several functions, called in turn [rounds, functions]."""
    for _ in range(warmup):
        for function in functions:
            function()
    return np.array([[timed(function)[1] for function in functions] for _ in range(rounds)])


def median(values: Sequence[float] | np.ndarray) -> tuple[float, float | None]:
    """The median over rounds, and the standard error of their mean; None for one round.

    >>> median([3.0, 5.0, 1.0])[0], median([2.0])
    (3.0, (2.0, None))
    """
    return float(np.median(values)), standard_error(values) if len(values) > 1 else None


def standard_error(values: Sequence[float] | np.ndarray) -> float:
    """The standard error of the mean of two values or more.

    >>> standard_error([1.0, 3.0])
    1.0
    """
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))


def repeated(function: Callable[[], object], times: int) -> Callable[[], None]:
    """A function that calls another one several times, so that both sides last equally long."""

    def run() -> None:
        for _ in range(times):
            function()

    return run
