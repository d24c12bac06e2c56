"""A number with its standard error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A mean, its standard error, and what it cost.

    >>> e = Estimate.of([1.0, 2.0, 3.0], matvecs=30)
    >>> e.value, round(e.stderr, 3), e.n
    (2.0, 0.577, 3)
    """

    value: float
    stderr: float | None  # standard error of the mean; None for one sample
    n: int  # independent samples behind the standard error
    matvecs: int  # Hessian-vector products that it cost

    @classmethod
    def of(cls, samples: Sequence[float] | np.ndarray, matvecs: int) -> Estimate:
        """The mean of independent samples."""
        values = np.asarray(samples, dtype=np.float64)
        n = len(values)
        stderr = float(values.std(ddof=1) / math.sqrt(n)) if n > 1 else None
        return cls(float(values.mean()), stderr, n, matvecs)

    def __str__(self) -> str:
        if self.stderr is None:
            return f"{self.value:.4g}"
        return f"{self.value:.4g} ± {self.stderr:.2g}"
