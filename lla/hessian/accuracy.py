"""Standard errors over probes and batches, and targets for them.

A `Spread` is the mean of values from probes on batches, with its error and the probes' part of it.
A `Target` is the error that a measurement has to reach. A `Scatter` is how much a criterion differs
between probes and batches, from which the error of a budget of both follows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lla.arguments import whole_number
from lla.errors import InputError
from lla.estimate import Estimate
from lla.quantiles import normal, widening

Over = Literal["batches", "probes"]
StandardErrors = float | Mapping[str, float]  # relative to the values: of all, or by criterion

CRITERIA = ("re", "kh1", "kh05")
MIN_SAMPLES = 4  # least number of batches, or degrees of freedom of probes, for a reliable error


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
        """The part of the error that would remain with exact values on every batch."""
        if self.stderr is None or self.within is None:
            return None
        return math.sqrt(max(0.0, self.stderr**2 - self.within**2))

    @property
    def factor(self) -> float:
        """Half a 95 % interval by Student's t against that of a normal number.

        >>> round(Spread(1.0, 0.1, 3, None, 0).factor, 2)  # four batches
        1.62
        """
        return widening(self.dof)

    @property
    def safe_stderr(self) -> float | None:
        """The standard error, enlarged for few samples, because these may underestimate it."""
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


@dataclass(frozen=True)
class Target:
    """The accuracy that `lla.criteria` has to reach, for its argument `target_stderr`.

    >>> Target(0.05, over="probes").over
    'probes'
    """

    stderr: StandardErrors  # relative to the value, such as 0.05 or {"re": 0.1, "kh1": 0.05}
    over: Over = "batches"  # see `lla.criteria`
    max_matvecs: int | None = None  # most products; None: probes x steps a batch

    def __post_init__(self) -> None:
        if self.over not in ("batches", "probes"):
            raise InputError(f"over is {self.over!r}: choose 'batches' or 'probes'")
        if self.max_matvecs is not None:
            whole_number("max_matvecs", self.max_matvecs, 1)
        targets_of(self.stderr)


def targets_of(stderr: StandardErrors, legacy: bool = False) -> dict[str, float]:
    """The target of each criterion that has one; a single number is that of r_e and K_H1.

    Args:
        stderr: standard errors relative to the values.
        legacy: whether the Lanczos process is the legacy one, which cannot stop at a target.

    Raises:
        InputError: an unknown criterion, no criterion, a target that is not a positive number, or
            a target with legacy.

    >>> targets_of(0.05)
    {'re': 0.05, 'kh1': 0.05}
    """
    targets = dict(stderr) if isinstance(stderr, Mapping) else {"re": stderr, "kh1": stderr}
    if not targets:
        raise InputError("target_stderr names no criterion: name some of 're', 'kh1' and 'kh05'")
    for name, target in targets.items():
        if name not in CRITERIA:
            raise InputError(f"target_stderr names {name!r}: choose 're', 'kh1' or 'kh05'")
        if not (isinstance(target, (int, float)) and 0 < target < math.inf):
            raise InputError(
                f"target_stderr is {target!r} for {name}: give a positive number, 0.05 for 5 %"
            )
    if legacy:
        raise InputError(
            "legacy has no bounds to stop by: leave out target_stderr, or measure without legacy"
        )
    return targets


def reached(found: Spread, target: float, over: Over, dtype: str) -> bool:
    """Whether an error is reliably known to be below its target.

    Args:
        found: a mean and its error.
        target: standard error relative to the value.
        over: whether the samples are batches or probes.
        dtype: of the products; an error below their rounding counts as reached.
    """
    fewest = MIN_SAMPLES if over == "probes" else MIN_SAMPLES - 1
    if found.safe_stderr is None or found.dof < fewest:
        return False
    rounding = _ROUNDING * float(np.finfo(dtype).eps)
    return found.safe_stderr <= max(target * abs(found.value), rounding)


_ROUNDING = 32  # eps


def shortfall(found: Spread, target: float) -> str:
    """What is compared with a target that was not reached, to follow "the standard error is".

    >>> shortfall(Spread(1.0, 0.045, 3, None, 0), 0.05)
    "0.073 of the value (0.045, enlarged by Student's t for few samples), and 0.05 was asked for"
    >>> shortfall(Spread(1.0, 0.02, 2, None, 0), 0.05)
    '0.02 of the value, but rests on fewer than four samples'
    """
    if found.stderr is None or found.safe_stderr is None:
        return "not known from so few samples"
    if not found.value:
        return f"{found.stderr:.2g} and the value 0"
    plain, compared = (error / abs(found.value) for error in (found.stderr, found.safe_stderr))
    if compared <= target:
        return f"{plain:.2g} of the value, but rests on fewer than four samples"
    # as many digits as show which is larger
    texts = (f"{compared:.{digits}g}" for digits in range(2, 18))
    text = next((text for text in texts if float(text) > target), f"{compared}")
    if found.factor > 1.01:
        text += f" of the value ({plain:.2g}, enlarged by Student's t for few samples)"
    else:
        text += " of the value"
    return f"{text}, and {target:g} was asked for"


@dataclass(frozen=True)
class Scatter:
    """How much a criterion differs from probe to probe and from batch to batch."""

    mean: float
    probes: float  # standard deviation over the probes of one batch
    batches: float  # standard deviation over batches, of means over infinitely many probes
    samples: tuple[int, int]  # probes in each batch, and batches, on which it is based

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

    It is the limit of resampling batches, then the probes of each, with many draws, but without the
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
