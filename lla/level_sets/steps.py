"""Steps on a level set of the loss: tangent directions, and Newton's method back to the level."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lla.errors import InputError, NonFiniteError
from lla.landscape.scalars import accuracy
from lla.problem import Problem

CORRECTIONS, FIRST_CORRECTIONS = 20, 200  # Newton steps back to the level, and to reach it at first
HALVINGS = 30  # of a Newton step on the way to the level
AIM = {torch.float32: 1e-4, torch.float64: 1e-9}  # of |L / level - 1|


@dataclass(frozen=True)
class OnLevel:
    """A point on the level set.

    Attributes:
        theta: [P].
        loss: L.
        slope: gradient of L [P].
        tries: gradients of L that it took, one more than the corrections.
        rough: corrections until |L / level - 1| was within the tolerance.
    """

    theta: Tensor
    loss: float
    slope: Tensor
    tries: int
    rough: int = 0


class Before(Protocol):
    """The point from which a step starts."""

    slope: Tensor

    def last(self, name: str) -> float:
        """A number there, such as "loss"."""


def steepest(slope: Tensor, drive: Tensor) -> tuple[Tensor, float]:
    """The unit vector in the tangent space along which R falls fastest, and the KKT residual.

    Args:
        slope: gradient of L [P].
        drive: gradient of R [P].

    >>> direction, kkt = steepest(torch.tensor([0.0, 2.0]), torch.tensor([3.0, 4.0]))
    >>> direction.tolist(), round(kkt, 3)
    ([-1.0, 0.0], 0.6)
    """
    normal = slope / slope.norm()
    tau = (drive @ normal) * normal - drive
    tau = tau - (tau @ normal) * normal  # again, against rounding
    size, whole = float(tau.norm()), float(drive.norm())
    if size == 0 or whole == 0:
        return torch.zeros_like(tau), 0.0
    return tau / size, size / whole


def projected(direction: Tensor, slope: Tensor) -> Tensor:
    """The unit vector along the projection of a direction on the tangent space."""
    return steepest(slope, -direction)[0]


def corrected(
    problem: Problem, theta: Tensor, before: Before, level: float, tol: float
) -> tuple[OnLevel | None, int]:
    """The point of the level set that Newton's method on log L finds, and the gradients it took.

    Args:
        problem: with L.
        theta: where a step along the tangent ends.
        before: where it starts; what L is off the level there is corrected with it.
        level: of L.
        tol: of |L / level - 1|, which is to be smaller than that in the end.

    Returns:
        None where L is not finite on the way, or not within tol at the end.
    """
    change = _newton(before.last("loss"), before.slope, level)
    theta = theta if change is None else theta + change
    rough = CORRECTIONS
    for tries in range(1, CORRECTIONS + 2):
        try:
            value, slope = problem.loss_and_gradient(theta)
        except NonFiniteError:
            return None, tries
        loss = float(value)
        change = _newton(loss, slope, level)
        off = abs(loss / level - 1)
        rough = min(rough, tries - 1) if off <= tol else rough
        if off <= _aim(problem, tol) or (tries > CORRECTIONS and off <= tol):
            return OnLevel(theta, loss, slope, tries, rough), tries
        if change is None:
            return None, tries
        theta = theta + change
    return None, tries


def reached(problem: Problem, theta: Tensor, level: float, tol: float) -> OnLevel:
    """The level set from anywhere: Newton's method on log L, in shorter steps where it overshoots.

    Raises:
        InputError: it does not get there.
    """
    first = loss = math.nan
    for tries in range(1, FIRST_CORRECTIONS + 1):
        value, slope = problem.loss_and_gradient(theta)
        loss = float(value)
        first = loss if tries == 1 else first
        change, off = _newton(loss, slope, level), abs(loss / level - 1)
        nearer = None
        if off > _aim(problem, tol) and change is not None:
            nearer = _nearer(problem, theta, change, loss, level)
        if nearer is None:
            if off <= tol:
                return OnLevel(theta, loss, slope, tries)
            break
        theta = nearer
    raise InputError(
        f"the start has the loss {first:.4g}, from which Newton's method comes to {loss:.4g} but "
        f"not to the level {level:.4g}: train the network further, or give a level nearer to its "
        "loss"
    )


def unseen(test: Problem, theta: Tensor) -> tuple[float, float]:
    """Loss and accuracy on test data; NaN where there is no accuracy."""
    there = test.at(theta)
    return float(there.loss()), math.nan if test.classes is None else accuracy(there)


def _aim(problem: Problem, tol: float) -> float:
    """The |L / level - 1| at which corrections end."""
    return min(tol, AIM[problem.dtype])


def _nearer(
    problem: Problem, theta: Tensor, change: Tensor, loss: float, level: float
) -> Tensor | None:
    """The first of theta + change, theta + change / 2, ... that is nearer to the level."""
    for halvings in range(HALVINGS):
        there = theta + change / 2**halvings
        value = float(problem.pool(problem.batch_losses(there)))
        if value > 0 and abs(math.log(value / level)) < abs(math.log(loss / level)):
            return there
    return None


def _newton(loss: float, slope: Tensor, level: float) -> Tensor | None:
    """The shortest step to log L = log level, log L taken as linear; None if there is none."""
    square = float(slope.double().square().sum())
    if not (loss > 0 and 0 < square < math.inf):
        return None
    return -(loss * math.log(loss / level) / square) * slope
