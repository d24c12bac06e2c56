"""How much a criterion differs between probes and batches, and the error of a budget of both."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lla.estimate import Estimate


@dataclass(frozen=True)
class Scatter:
    """How much a criterion differs from probe to probe and from batch to batch."""

    mean: float
    probes: float  # standard deviation over the probes of one batch
    batches: float  # standard deviation over batches, of means over infinitely many probes
    samples: tuple[int, int]  # probes a batch, and batches, from which it is known

    @classmethod
    def of(cls, values: np.ndarray) -> Scatter:
        """The scatter of a criterion, from its values [batches, probes].

        Each batch has probes of its own. The two variances are the unbiased estimates of this
        nested design; a negative variance over batches is replaced by zero.
        """
        batches, probes = values.shape
        within = values.var(axis=1, ddof=1).mean() if probes > 1 else math.nan
        between = values.mean(axis=1).var(ddof=1) - within / probes if batches > 1 else math.nan
        return cls(
            float(values.mean()),
            math.sqrt(within),
            math.sqrt(max(0.0, between)) if batches > 1 else math.nan,
            (probes, batches),
        )

    def stderr(self, probes: int, batches: int) -> float:
        """Standard error of the criterion, from `probes` probes on each of `batches` batches."""
        return budget_stderr(self.probes, self.batches, probes, batches)


def budget_stderr(within: float, between: float, probes: int, batches: int) -> float:
    """Standard error of a mean over batches of means over probes.

    It is the limit of resampling batches, and then probes of each, with many draws, but without the
    bias (k - 1) / k of drawing from k values.

    Args:
        within: standard deviation over the probes of one batch.
        between: standard deviation over batches, of means over infinitely many probes.
        probes: of each batch.
        batches: how many.

    >>> budget_stderr(within=4.0, between=3.0, probes=1, batches=25)
    1.0
    """
    return math.sqrt((between**2 + within**2 / probes) / batches)


def probe_and_batch_ranges(values: np.ndarray) -> tuple[Estimate, float]:
    """The range over the probes of a batch, as a mean over batches, and the range over batches.

    Args:
        values: of a criterion [batches, probes].

    >>> probes, batches = probe_and_batch_ranges(np.array([[1.0, 3.0], [5.0, 7.0]]))
    >>> probes.value, batches
    (2.0, 4.0)
    """
    return Estimate.of(np.ptp(values, axis=1), 0), float(np.ptp(values.mean(axis=1)))
