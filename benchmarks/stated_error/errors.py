"""The error of a fixed budget of probes and steps, and the cheapest one that is small enough.

A budget gives the same number of probes of equal length to each batch; its criteria are means over
probes, then over batches. Its error against exact values has two parts: a bias, which no probe
removes (too few steps, ghosts, wrong weights), and a scatter, which falls with the root of the
number of probes. Both follow from repeated runs of one probe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.hesd_cost.measurement import Linear

MOST = 20  # probes of a fixed budget
_ENOUGH = 10**6  # no budget has more probes


@dataclass(frozen=True)
class Exact:
    """A criterion's mean over the batches by a measurement of its own, and its error."""

    value: float
    stderr: float


@dataclass(frozen=True)
class Error:
    """What the root mean square error of a criterion comes from; both relative to its value."""

    bias: float  # at least 0
    scatter: float  # of one probe on each batch
    dof: int  # degrees of freedom behind the scatter

    def rms(self, probes: int = 1) -> float:
        """The root mean square error of a number of probes on each batch.

        >>> round(Error(0.03, 0.08, 12).rms(4), 3)
        0.05
        """
        return math.hypot(self.bias, self.scatter / math.sqrt(probes))

    def stderr(self, probes: int = 1) -> float:
        """The standard error of `rms`, as for normal values and a known bias.

        >>> round(Error(0.0, 0.1, 50).stderr(4), 4)  # a tenth of 5 %
        0.005
        """
        size = self.rms(probes)
        return self.scatter**2 / probes / size / math.sqrt(2 * self.dof) if size else 0.0

    def probes(self, target: float) -> int | None:
        """The least number of probes on each batch of which the error is small enough.

        None if no number of them is enough.

        >>> Error(0.03, 0.08, 12).probes(0.05), Error(0.06, 0.01, 12).probes(0.05)
        (4, None)
        """
        room = target**2 - self.bias**2
        if room <= 0:
            return None
        needed = math.ceil(self.scatter**2 / room * (1 - 1e-9))
        return max(1, needed) if needed < _ENOUGH else None


def error_of(values: np.ndarray, exact: Exact) -> Error:
    """The error of runs of one probe.

    The square of the mean's distance from the exact value is what chance adds to the square of the
    bias, too: the variances of both are taken away. So a library is not blamed for few repetitions.

    Args:
        values: of a criterion [batches, repetitions], two repetitions or more.
        exact: its mean over the batches.
    """
    batches, repetitions = values.shape
    variance = float(values.var(1, ddof=1).mean()) / batches  # of the mean of one probe a batch
    square = (values.mean() - exact.value) ** 2 - variance / repetitions - exact.stderr**2
    bias = math.sqrt(max(0.0, square))
    scale, dof = abs(exact.value), batches * (repetitions - 1)
    return Error(bias / scale, math.sqrt(variance) / scale, dof)


def rms_of(results: np.ndarray, exact: Exact) -> tuple[float, float]:
    """The root mean square error of whole measurements, relative, and its standard error.

    The exact value's own error is taken away.

    Args:
        results: of a criterion [repetitions].
        exact: what it should be.

    >>> size, error = rms_of(np.array([1.1, 0.9]), Exact(1.0, 0.0))
    >>> round(size, 3), round(error, 3)
    (0.1, 0.05)
    """
    square = float(((results - exact.value) ** 2).mean())
    size = math.sqrt(max(0.0, square - exact.stderr**2)) / abs(exact.value)
    return size, math.sqrt(square) / abs(exact.value) / math.sqrt(2 * len(results))


Errors = Mapping[int, Mapping[str, Error]]  # by steps, then by criterion


@dataclass(frozen=True)
class Budget:
    """A fixed budget and its seconds."""

    steps: int
    probes: int  # on each batch
    seconds: float


def cheapest(
    errors: Errors, seconds: Mapping[int, Linear], batches: int, target: float
) -> Budget | None:
    """The budget of the least seconds of which all errors are small enough; None if there is none.

    Args:
        errors: of one probe.
        seconds: by the same steps.
        batches: how many.
        target: root mean square error, relative.
    """
    found = []
    for steps, known in errors.items():
        needed = [error.probes(target) for error in known.values()]
        if None not in needed:
            probes = max(filter(None, needed))
            found.append(Budget(steps, probes, seconds[steps].seconds(probes, batches)))
    return min(found, key=lambda budget: budget.seconds, default=None)


def between(
    errors: Errors, seconds: Mapping[int, Linear], batches: int, target: float
) -> tuple[Budget | None, Budget | None]:
    """The cheapest budgets if the scatter is a standard error less, and if it is one more."""

    def scaled(sign: int) -> Errors:
        def other(error: Error) -> Error:
            factor = max(0.0, 1 + sign / math.sqrt(2 * error.dof))
            return replace(error, scatter=error.scatter * factor)

        return {m: {name: other(e) for name, e in known.items()} for m, known in errors.items()}

    low, high = (cheapest(scaled(sign), seconds, batches, target) for sign in (-1, 1))
    return low, high


def least(errors: Errors, most: int = MOST) -> tuple[float, int]:
    """The least error, of the worse criterion, that a number of probes reaches, and its steps."""
    worst = {m: max(e.rms(most) for e in known.values()) for m, known in errors.items()}
    return min((value, steps) for steps, value in worst.items())
