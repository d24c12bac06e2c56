"""The end of a walk beside the minima of L + lambda R at the same training loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

import lla
from lla import level_sets
from lla.level_sets import LevelPath, WeightedSum
from paper_tables.exhibits.level_sets.walks import JACOBIAN, L2

COMPARED = (L2, JACOBIAN)  # the walks whose ends are compared
OFF = "off_curve"
FIRST, FACTOR, MOST = 2.0, 2.0, 6  # lambda over the multiplier at the end; its steps; their number
RTOL, GRADIENTS = 0.03, {L2: 600, JACOBIAN: 60}  # of a minimisation
RAN_AWAY = "a minimisation of L + lambda R ran away to a smaller loss and less than half of R"
NOT_ENDED = "a minimisation of L + lambda R did not end"
NOT_REACHED = "no two minima of L + lambda R have the level between their losses"


def config_of(walk: str) -> dict[str, Any]:
    """What determines the minima; nothing for a walk that is not compared."""
    if walk not in COMPARED:
        return {}
    return {
        "first": FIRST, "factor": FACTOR, "most": MOST, "rtol": RTOL,
        "max_gradients": GRADIENTS[walk],
    }  # fmt: skip


def minima_around(problem: lla.Problem, path: LevelPath, walk: str) -> list[WeightedSum]:
    """Minima of L + lambda R, one for each lambda, until the level lies between two losses.

    Each starts at the one before it, the first at the problem's weights. They end early where a
    minimisation does not end or runs away, for there is no comparison then.
    """
    weight, theta = FIRST * path.multiplier[-1], problem.theta()
    found: list[WeightedSum] = []
    while len(found) < MOST:
        there = problem.at(torch.from_numpy(found[-1].points[-1]).to(theta)) if found else problem
        found.append(
            level_sets.weighted_sum(
                there, walk, [weight], rtol=RTOL, max_gradients=GRADIENTS[walk]
            )
        )  # fmt: skip
        if _why_not(path, found[-1]) or _between(found, path.level):
            break
        weight *= FACTOR if found[-1].loss[-1] < path.level else 1 / FACTOR
    return found


def off_curve(path: LevelPath, minima: list[WeightedSum]) -> tuple[float | None, str]:
    """By how much R at the end of a walk lies above the curve of the minima, in percent.

    The curve is a straight line in log L and log R between the two minima around the level.

    Returns:
        The number and "", or None and the reason why there is none.
    """
    for minimum in minima:
        why = _why_not(path, minimum)
        if why:
            return None, why
    if not _between(minima, path.level):
        return None, NOT_REACHED
    pair = sorted(minima[-2:], key=lambda each: each.loss[0])
    losses, values = (
        np.log([getattr(each, name)[0] for each in pair]) for name in ("loss", "regularizer")
    )
    R = np.exp(np.interp(math.log(path.level), losses, values))
    return float(100 * (path.regularizer[-1] / R - 1)), ""


def points(minima: list[WeightedSum]) -> np.ndarray:
    """L and R [MOST, 2] of the minima; NaN where there are fewer."""
    found = np.full((MOST, 2), np.nan)
    for k, minimum in enumerate(minima):
        found[k] = minimum.loss[0], minimum.regularizer[0]
    return found


def _why_not(path: LevelPath, minimum: WeightedSum) -> str:
    """Why a minimum is none to compare with; "" if it is one."""
    if minimum.loss[0] <= path.level and 2 * minimum.regularizer[0] < path.regularizer[-1]:
        return RAN_AWAY
    return "" if minimum.residual[0] <= RTOL else NOT_ENDED


def _between(minima: list[WeightedSum], level: float) -> bool:
    """Whether the level lies between the losses of the last two minima."""
    losses = sorted(each.loss[0] for each in minima[-2:])
    return len(losses) == 2 and bool(losses[0] <= level <= losses[1])
