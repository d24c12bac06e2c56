"""Where the loss along rays from a minimum first reaches a cutoff.

Each ray is scanned at c_k = 1e-3 x 1.12^k, and the first two neighbours with the cutoff between
them are narrowed down by Chandrupatla's method, which keeps the bracket as bisection does and
takes a third of its evaluations. All rays of a group are at the same step at once, so their points
can be evaluated in one call of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import elementwise
from torch import Tensor

from lla.errors import InputError
from lla.landscape.evaluate import Directions, Route

FIRST, RATIO = 1e-3, 1.12  # of the scan
RTOL = 1e-6  # of a radius
_LOWER = 61  # steps by which a start is lowered, a factor of 1000
_LOWEST = -4 * _LOWER  # step
_RISEN = 1e6  # in units of the cutoff: the excess of a loss that is not finite


@dataclass(frozen=True)
class Rays(Directions):
    """The points `theta + c rows[i]`; the coefficients of one are (i, c)."""

    def point(self, coefficients: Tensor) -> Tensor:
        """The weights [P] of one point, coefficients [2] in float64."""
        i, c = coefficients.tolist()
        return torch.add(self.theta, self.rows[int(i)], alpha=c)


Excess = Callable[[np.ndarray, np.ndarray], np.ndarray]  # rays [n], c [n] -> loss - cutoff [n]


@dataclass
class CountedExcess:
    """By how much the loss at points of rays exceeds the cutoff; a call counts its points."""

    route: Route
    cutoff: float
    evaluations: int = 0

    def __call__(self, rays: np.ndarray, c: np.ndarray) -> np.ndarray:
        """The excess [n] at the distances c [n]; large and positive where the loss overflows."""
        self.evaluations += len(c)
        found = self.route(torch.from_numpy(np.stack([rays, c], axis=1).astype(np.float64)))
        excess: np.ndarray = found.double().cpu().numpy() - self.cutoff
        risen = _RISEN * self.cutoff
        return np.nan_to_num(excess, nan=risen, posinf=risen)


def node(k: np.ndarray | int, reach: float) -> np.ndarray:
    """The distance of step k of the scan, at most `reach`."""
    return np.minimum(FIRST * RATIO ** np.asarray(k, dtype=np.float64), reach)


def step_below(radius: float) -> int:
    """The last step of the scan that is not above a radius."""
    return int(np.floor(np.log(radius / FIRST) / np.log(RATIO)))


def first_crossings(
    excess: Excess, count: int, reach: float, start: int = 0, rtol: float = RTOL
) -> tuple[np.ndarray, np.ndarray]:
    """The radii of some rays, and which of them reach the cutoff.

    Args:
        excess: loss less cutoff at points of the rays 0, ..., count - 1; negative at c = 0.
        count: of rays.
        reach: the largest c.
        start: step of the scan to begin with. A ray that is above the cutoff there is scanned
            from step 0, and from lower ones if it is above there, too.
        rtol: relative error of a radius.

    Returns:
        Radii [count] in float64, `reach` where the cutoff is not reached; and [count] bool.

    Raises:
        InputError: the loss is above the cutoff at any distance that can be told from 0.
    """
    steps = _starts(excess, count, reach, start)
    reached = np.zeros(count, dtype=bool)
    active = np.arange(count)
    while active.size:
        steps[active] += 1
        above = excess(active, node(steps[active], reach)) >= 0
        reached[active[above]] = True
        active = active[~above]
        active = active[node(steps[active], reach) < reach]
    radii = np.full(count, float(reach))
    rays = np.flatnonzero(reached)
    if rays.size:
        bracket = node(steps[rays] - 1, reach), node(steps[rays], reach)
        found = elementwise.find_root(
            lambda c, i: excess(i, c),
            bracket,
            args=(rays,),
            tolerances={"xatol": 0.0, "xrtol": rtol, "fatol": 0.0, "frtol": 0.0},
        )
        radii[rays] = found.x
    return radii, reached


def _starts(excess: Excess, count: int, reach: float, start: int) -> np.ndarray:
    """The step of each ray at which its scan begins, below the cutoff."""
    steps = np.full(count, min(start, step_below(reach)))
    left = np.arange(count)
    while left.size:
        left = left[excess(left, node(steps[left], reach)) >= 0]
        if left.size and steps[left].min() <= _LOWEST:
            raise InputError(
                f"the loss reaches the cutoff at {node(_LOWEST, reach):.1g} of the size of the "
                f"filters along {left.size} directions: take a larger cutoff or another minimum"
            )
        steps[left] = np.where(steps[left] > 0, 0, steps[left] - _LOWER)
    return steps
