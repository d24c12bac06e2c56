"""Targets: standard errors that a measurement is to reach, and when one is reached."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from lla.errors import InputError
from lla.hessian.spread import Over, Spread

Target = float | Mapping[str, float]

CRITERIA = ("re", "kh1", "kh05")
FEWEST = 4  # batches, or degrees of freedom of probes, before an error is believed


def targets_of(target_stderr: Target) -> dict[str, float]:
    """The target of each criterion that has one; a single number is that of r_e and K_H1.

    Raises:
        InputError: an unknown criterion, none, or a target that is no positive number.

    >>> targets_of(0.05)
    {'re': 0.05, 'kh1': 0.05}
    """
    if isinstance(target_stderr, Mapping):
        targets = dict(target_stderr)
    else:
        targets = {"re": target_stderr, "kh1": target_stderr}
    if not targets:
        raise InputError("target_stderr names no criterion: name some of 're', 'kh1' and 'kh05'")
    for name, target in targets.items():
        if name not in CRITERIA:
            raise InputError(f"target_stderr names {name!r}: choose 're', 'kh1' or 'kh05'")
        if not (isinstance(target, (int, float)) and 0 < target < math.inf):
            raise InputError(
                f"target_stderr is {target!r} for {name}: give a positive number, 0.05 for 5 %"
            )
    return targets


def check_target(
    target_stderr: Target | None, over: str, max_matvecs: int | None, *, legacy: bool
) -> None:
    """Raise for a target that cannot be, or for what goes with one where there is none.

    Raises:
        InputError: see `targets_of`; `over` is unknown; legacy with a target; max_matvecs without.
    """
    if over not in ("batches", "probes"):
        raise InputError(f"over is {over!r}: choose 'batches' or 'probes'")
    if target_stderr is None:
        if max_matvecs is not None:
            raise InputError(
                f"max_matvecs is {max_matvecs} without a target_stderr: there are probes x steps "
                "products a batch then, so leave it out"
            )
        return
    targets_of(target_stderr)
    if legacy:
        raise InputError(
            "legacy has no bounds to stop by: leave out target_stderr, or measure without legacy"
        )


def reached(found: Spread, target: float, over: Over, dtype: str) -> bool:
    """Whether an error is below its target, and known well enough to say so.

    Args:
        found: a mean and its error.
        target: standard error relative to the value.
        over: whether the samples are batches or probes.
        dtype: of the products; what is below their rounding is reached.
    """
    fewest = FEWEST if over == "probes" else FEWEST - 1
    if found.safe_stderr is None or found.dof < fewest:
        return False
    rounding = _ROUNDING * float(np.finfo(dtype).eps)
    return found.safe_stderr <= max(target * abs(found.value), rounding)


_ROUNDING = 32
