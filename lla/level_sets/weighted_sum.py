"""Minima of L + lambda R, with which the end of a walk on a level set is compared."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize
from torch import Tensor

from lla.arguments import positive_number, whole_number
from lla.errors import InputError, NonFiniteError
from lla.landscape.scalars import accuracy
from lla.level_sets.regularizer import Function, Regularizer, check_at_start, check_problem
from lla.level_sets.regularizers import named
from lla.problem import Problem
from lla.progress_bars import tqdm
from lla.saved import Saved
from lla.storage import FLOATS, INTEGERS, array_faults

_MEMORY = 20  # pairs that L-BFGS keeps
_ARRAYS = ("weights", "loss", "regularizer", "residual", "test_loss", "test_accuracy")


@dataclass(frozen=True)
class WeightedSum(Saved):
    """Minima of L + lambda R for some lambda, in the order in which they were found."""

    weights: np.ndarray  # [W] lambda
    loss: np.ndarray  # [W] L
    regularizer: np.ndarray  # [W] R
    residual: np.ndarray  # [W] ||g_L + lambda g_R|| / ||lambda g_R||: 0 at a stationary point
    test_loss: np.ndarray  # [W]; NaN without test data
    test_accuracy: np.ndarray  # [W]
    gradients: np.ndarray  # [W] gradients of L, and of R, that it took
    points: np.ndarray  # [W, P] theta
    name: str  # of R

    LONG: ClassVar[tuple[str, ...]] = ("points",)

    def to_frame(self) -> pd.DataFrame:
        """One row a minimum, in the order in which they were found."""
        return pd.DataFrame({name: getattr(self, name) for name in (*_ARRAYS, "gradients")})

    def __repr__(self) -> str:
        return (
            f"{len(self.loss)} minima of L + lambda R for R = {self.name}, lambda from "
            f"{self.weights.min():.3g} to {self.weights.max():.3g}\n"
            f"L from {self.loss.min():.4g} to {self.loss.max():.4g}, R from "
            f"{self.regularizer.min():.4g} to {self.regularizer.max():.4g}"
        )

    def at(self, level: float) -> float:
        """R on the curve where L is the level: log R is interpolated in log L.

        Args:
            level: of L, between two neighbours of the curve.

        Raises:
            InputError: the level is beyond the ends of the curve, or R is not positive on it.
        """
        level = positive_number("level", level)
        order = np.argsort(self.loss)
        losses = self.loss[order]
        if not losses[0] <= level <= losses[-1]:
            raise InputError(
                f"the minima have losses from {losses[0]:.4g} to {losses[-1]:.4g}, and the level "
                f"is {level:.4g}: add {'smaller' if level < losses[0] else 'larger'} weights"
            )
        if not (self.regularizer > 0).all():
            raise InputError(
                f"{self.name} is {self.regularizer.min():.4g} at a minimum, which has no "
                "logarithm: compare where it is positive"
            )
        logs = np.log(self.regularizer[order])
        return float(np.exp(np.interp(math.log(level), np.log(losses), logs)))

    def _faults(self) -> Iterator[str]:
        count = len(self.weights)
        yield from array_faults(
            self,
            **dict.fromkeys(_ARRAYS, ((count,), "float64")),
            gradients=((count,), INTEGERS),
            points=((count, self.points.shape[-1]), FLOATS),
        )
        if not (self.loss > 0).all():
            yield "a loss is not positive"


def weighted_sum(
    problem: Problem,
    regularizer: str | Regularizer | Function,
    weights: Sequence[float],
    *,
    max_gradients: int = 1000,
    rtol: float = 1e-2,
    test: Any = None,
    progress: bool = False,
) -> WeightedSum:
    """Minimise L + lambda R for each lambda, by L-BFGS (scipy).

    The first minimisation starts at the problem's weights, each other one at the minimum before
    it. Where L is as large as along a walk, R should be as large as at its end.

    Args:
        problem: network, loss and data.
        regularizer: R, see `walk`.
        weights: lambda; at the end of a walk it is `LevelPath.multiplier[-1]`.
        max_gradients: for each lambda, at most.
        rtol: a minimisation ends where ||g_L + lambda g_R|| <= rtol ||lambda g_R||.
        test: test data.
        progress: show a bar.

    Raises:
        InputError: a weight that is not positive, or none; see `walk`.
        NonFiniteError: loss or regularizer is not finite.

    >>> model = torch.nn.Linear(2, 2)
    >>> x, y = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    >>> curve = weighted_sum(Problem(model, (x, y)), "l2", [0.01, 0.1])
    >>> bool(curve.loss[0] < curve.loss[1]), bool(curve.regularizer[0] > curve.regularizer[1])
    (True, True)
    """
    check_problem(problem, "weighted_sum")
    R = named(regularizer)
    if isinstance(weights, int | float):
        raise InputError(f"weights is {weights}: give a list of lambdas")
    lambdas = [positive_number("a weight", each) for each in weights]
    if not lambdas:
        raise InputError("there is no weight: give at least one lambda")
    most = whole_number("max_gradients", max_gradients, 1)
    rtol = positive_number("rtol", rtol)
    other = None if test is None else problem.over(test)
    theta = problem.theta()
    check_at_start(R, problem, theta)
    rows, points = [], []
    for weight in tqdm(lambdas, unit="minimum", disable=not progress):
        theta, numbers = _minimum(problem, R, weight, theta, most, rtol)
        held = (math.nan, math.nan)
        if other is not None:
            there = other.at(theta)
            held = (float(there.loss()), math.nan if other.classes is None else accuracy(there))
        rows.append((weight, *numbers[:3], *held, numbers[3]))
        points.append(theta.cpu().numpy())
    columns = list(map(np.array, zip(*rows, strict=True)))
    return WeightedSum(
        **dict(zip(_ARRAYS, columns[:-1], strict=True)), gradients=columns[-1],
        points=np.stack(points), name=R.name,
    )  # fmt: skip


def _minimum(
    problem: Problem, R: Regularizer, weight: float, start: Tensor, most: int, rtol: float
) -> tuple[Tensor, tuple[float, float, float, int]]:
    """The minimum from a start, and its L, R, residual and number of gradients."""
    scale = float(problem.loss(start)) + weight * R.value(problem, start)
    best: dict[str, Any] = {"value": math.inf, "numbers": (math.nan,) * 3}
    count = 0

    def function(vector: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal count
        count += 1
        theta = torch.from_numpy(vector).to(start)
        try:
            loss, slope = problem.loss_and_gradient(theta)
        except NonFiniteError:
            return 1e30, np.zeros_like(vector)  # a step too far
        value, drive = R.value_and_gradient(problem, theta)
        total, gradient = float(loss) + weight * value, slope + weight * drive
        if not math.isfinite(total):
            return 1e30, np.zeros_like(vector)
        residual = float(gradient.norm() / (weight * drive.norm()))
        if total < best["value"]:
            best.update(value=total, theta=theta, numbers=(float(loss), value, residual))
        return total / scale, gradient.double().cpu().numpy() / scale

    def callback(_: np.ndarray) -> None:
        if best["numbers"][2] <= rtol:
            raise StopIteration

    minimize(
        function, start.double().cpu().numpy(), jac=True, method="L-BFGS-B", callback=callback,
        options={"maxcor": _MEMORY, "maxfun": most, "maxiter": most, "ftol": 0, "gtol": 0},
    )  # fmt: skip
    if "theta" not in best:
        raise NonFiniteError(f"L + {weight:.3g} {R.name} is not finite: check the weights")
    return best["theta"], (*best["numbers"], count)
