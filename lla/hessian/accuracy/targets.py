"""Targets: the standard errors that a measurement has to reach, and when one is reached."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lla.errors import InputError
from lla.hessian.accuracy.spread import Over, Spread

StandardErrors = float | Mapping[str, float]  # relative to the values: of all, or by criterion

CRITERIA = ("re", "kh1", "kh05")
MIN_SAMPLES = 4  # batches, or degrees of freedom of probes, before an error is believed


@dataclass(frozen=True)
class Target:
    """The accuracy that `lla.criteria` has to reach, for its argument `target_stderr`.

    >>> Target(0.05, over="probes").over
    'probes'
    """

    stderr: StandardErrors  # relative to the value, such as 0.05 or {"re": 0.1, "kh1": 0.05}
    over: Over = "batches"  # what the standard error is over, see `lla.criteria`
    max_matvecs: int | None = None  # Hessian-vector products at most; None: probes x steps a batch

    def __post_init__(self) -> None:
        if self.over not in ("batches", "probes"):
            raise InputError(f"over is {self.over!r}: choose 'batches' or 'probes'")
        targets_of(self.stderr)


def targets_of(stderr: StandardErrors, legacy: bool = False) -> dict[str, float]:
    """The target of each criterion that has one; a single number is that of r_e and K_H1.

    Args:
        stderr: standard errors relative to the values.
        legacy: whether the legacy Lanczos process is to be used, which cannot stop at a target.

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
    """Whether an error is below its target, and known well enough to say so.

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
