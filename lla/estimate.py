"""A number with its standard error."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from operator import ge, gt, le, lt
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from lla.saved import Saved


@dataclass(frozen=True)
class Estimate(Saved):
    """A mean, its standard error, and what it cost.

    Where a number is expected, its value is taken: by `float`, by `<`, `<=`, `>` and `>=` against
    numbers and other estimates, and by a format such as `.3f`. Two estimates are equal (`==`) only
    if all their fields are. A value that is NaN was not measured; no comparison with it holds.

    >>> e = Estimate.of([1.0, 2.0, 3.0], matvecs=30)
    >>> e.value, round(e.stderr, 3), e.n
    (2.0, 0.577, 3)
    >>> float(e), e < 2.5, f"{e:.3f}", f"{e}"
    (2.0, True, '2.000', '2 ± 0.58')
    """

    value: float
    stderr: float | None  # standard error of the mean; None for one sample
    n: int  # independent samples behind the standard error
    matvecs: int  # Hessian-vector products that it cost

    NOT_FINITE: ClassVar[tuple[str, ...]] = ("value",)

    @classmethod
    def of(cls, samples: Sequence[float] | np.ndarray, matvecs: int) -> Estimate:
        """The mean of independent samples."""
        values = np.asarray(samples, dtype=np.float64)
        n = len(values)
        stderr = float(values.std(ddof=1) / math.sqrt(n)) if n > 1 else None
        return cls(float(values.mean()), stderr, n, matvecs)

    def _faults(self) -> Iterator[str]:
        if self.n and not math.isfinite(self.value):
            yield f"value is {self.value} from {self.n} samples"
        if (self.stderr or 0.0) < 0 or self.n < 0 or self.matvecs < 0:
            yield f"stderr is {self.stderr}, n is {self.n} and matvecs is {self.matvecs}"

    def __float__(self) -> float:
        return float(self.value)

    def __lt__(self, other: object) -> bool:
        return self._compared(lt, other)

    def __le__(self, other: object) -> bool:
        return self._compared(le, other)

    def __gt__(self, other: object) -> bool:
        return self._compared(gt, other)

    def __ge__(self, other: object) -> bool:
        return self._compared(ge, other)

    def _compared(self, how: Callable[[Any, Any], bool], other: object) -> bool:
        """Compare the value with a number, or with that of another estimate."""
        if isinstance(other, Estimate):
            other = other.value
        return how(self.value, other) if isinstance(other, Real) else NotImplemented

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if spec else str(self)

    def __str__(self) -> str:
        if self.stderr is None:
            return f"{self.value:.4g}"
        return f"{self.value:.4g} ± {self.stderr:.2g}"


def frame_of(estimates: Mapping[str, Estimate], name: str) -> pd.DataFrame:
    """Estimates as a table, one row each; a standard error that is not known is NaN.

    >>> frame_of({"re": Estimate(0.5, None, 1, 10)}, "criterion").loc["re", "value"]
    np.float64(0.5)
    """
    columns = {
        "value": [e.value for e in estimates.values()],
        "stderr": [math.nan if e.stderr is None else e.stderr for e in estimates.values()],
        "n": [e.n for e in estimates.values()],
        "matvecs": [e.matvecs for e in estimates.values()],
    }
    return pd.DataFrame(columns, index=pd.Index(list(estimates), name=name))
