"""The mean of values from probes on batches, its error, and the probes' part of the error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lla.quantiles import normal, student_t

Over = Literal["batches", "probes"]


@dataclass(frozen=True)
class Spread:
    """A mean over batches of means over probes, and its standard error."""

    value: float
    stderr: float | None  # standard error; None for too few samples
    dof: float  # degrees of freedom of the standard error; inf if it is not an estimate
    within: float | None  # the probes' part of it; None for one probe a batch
    within_dof: float

    @property
    def between(self) -> float | None:
        """The part of the error that is left with exact values on every batch."""
        if self.stderr is None or self.within is None:
            return None
        return math.sqrt(max(0.0, self.stderr**2 - self.within**2))

    @property
    def factor(self) -> float:
        """Half a 95 % interval by Student's t against that of a normal number.

        >>> round(Spread(1.0, 0.1, 3, None, 0).factor, 2)  # four batches
        1.62
        """
        return student_t(0.975, self.dof) / _NORMAL

    @property
    def safe_stderr(self) -> float | None:
        """The standard error, enlarged for few samples, which may make it too small."""
        return None if self.stderr is None else self.factor * self.stderr

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval by Student's t; infinite if the standard error is not known."""
        if self.safe_stderr is None:
            return -math.inf, math.inf
        half = _NORMAL * self.safe_stderr
        return self.value - half, self.value + half


_NORMAL = normal(0.975)


def spread(samples: Sequence[np.ndarray], over: Over, within: float | None = None) -> Spread:
    """The mean of the batches' means and its error.

    If the probes' part of the error is not given, it comes from the pooled scatter of probes within
    batches: with the variance s_w^2 and p_b probes on each of B batches it is
    s_w sqrt(sum 1 / p_b) / B.

    Args:
        samples: the values of each batch [p_b].
        over: with "batches", these are a sample of many, and the standard error is that of
            independent means, with the scatter of batches and probes; with "probes", they are all
            that there are.
        within: the probes' part of the error, if it is known.

    >>> two = spread([np.array([1.0, 3.0]), np.array([4.0, 4.0])], "batches")
    >>> two.value, two.stderr, two.within
    (3.0, 1.0, 0.5)
    """
    counts = np.array([len(values) for values in samples])
    means = np.array([values.mean() for values in samples])
    within_dof: float = math.inf
    if within is None:
        within_dof = int((counts - 1).sum())
        squares = sum(float(((v - v.mean()) ** 2).sum()) for v in samples)
        if within_dof:
            within = math.sqrt(squares / within_dof * float((1 / counts).sum())) / len(samples)
    stderr, dof = within, within_dof
    if over == "batches":
        dof = len(samples) - 1
        stderr = float(means.std(ddof=1)) / math.sqrt(len(samples)) if dof else None
    return Spread(float(means.mean()), stderr, dof, within, within_dof)
