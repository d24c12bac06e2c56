"""A regularizer R(theta) of a walk on a level set: its value, its gradient, and checks."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lla.door import check_derivatives
from lla.errors import InputError, NonFiniteError
from lla.missing_derivatives import missing_derivatives_named
from lla.problem import Problem, check_is_problem

Function = Callable[[Problem, Tensor], Tensor]
Terms = Generator[Tensor, None, None]
Parts = Callable[[Problem, Tensor], Terms]


@dataclass(frozen=True)
class Regularizer:
    """A differentiable function R of the parameters of a problem.

    Attributes:
        name: in tables and figures.
        parts: gives 0-d tensors in the graph of theta [P], whose sum is R. Each is differentiated
            by itself, so that not all graphs are in memory at once.
        sampled: whether R depends on random vectors, which are the same at each call.

    >>> model = torch.nn.Linear(2, 2)
    >>> problem = Problem(model, (torch.ones(2, 2), torch.tensor([0, 1])))
    >>> squares = Regularizer.of(lambda problem, theta: theta.square().sum(), "squares")
    >>> value, gradient = squares.value_and_gradient(problem, torch.ones(6))
    >>> value, gradient.tolist()
    (6.0, [2.0, 2.0, 2.0, 2.0, 2.0, 2.0])
    """

    name: str
    parts: Parts
    sampled: bool = False

    @classmethod
    def of(cls, function: Function, name: str | None = None) -> Regularizer:
        """From a function (problem, theta [P]) -> R, a 0-d tensor that can be differentiated."""

        def parts(problem: Problem, theta: Tensor) -> Terms:
            yield function(problem, theta)

        return cls(name or str(getattr(function, "__name__", "regularizer")), parts)

    def value(self, problem: Problem, theta: Tensor) -> float:
        """R(theta), finite or not.

        Raises:
            InputError: see `value_and_gradient`.
        """
        return self._computed(problem, theta, gradient=False)[0]

    def value_and_gradient(self, problem: Problem, theta: Tensor) -> tuple[float, Tensor]:
        """R(theta) and its gradient [P], finite or not.

        Raises:
            InputError: R is no scalar, or does not depend on theta; the network, its input or its
                loss are of a kind that it cannot take.
        """
        return self._computed(problem, theta, gradient=True)

    def _computed(self, problem: Problem, theta: Tensor, gradient: bool) -> tuple[float, Tensor]:
        theta = theta.detach().clone().requires_grad_()
        total, slope = 0.0, torch.zeros_like(theta)
        depends = False
        with (
            problem.deterministic(),
            torch.enable_grad(),
            missing_derivatives_named(),
            closing(self.parts(problem, theta)) as parts,
        ):
            for part in parts:
                self._check(part)
                total += float(part.detach())
                if gradient and part.requires_grad:
                    (own,) = torch.autograd.grad(part, theta, retain_graph=True, allow_unused=True)
                    depends |= own is not None
                    slope += 0.0 if own is None else own.detach()
        if gradient and not depends:
            raise InputError(
                f"the regularizer {self.name} does not depend on the parameters: compute it from "
                "the theta that it is called with"
            )
        return total, slope

    def _check(self, part: Any) -> None:
        if not isinstance(part, Tensor) or part.numel() != 1:
            shape = list(part.shape) if isinstance(part, Tensor) else type(part).__name__
            raise InputError(
                f"the regularizer {self.name} gives {shape}: let it return a tensor with one number"
            )


def check_problem(problem: Problem, caller: str) -> None:
    """Raise unless a function of `lla.level_sets` is given a problem in eval mode.

    Raises:
        InputError: something else, or train mode.
    """
    check_is_problem(problem, f"lla.level_sets.{caller}(lla.Problem(model, batches))")
    if problem.mode == "train":
        raise InputError(
            "the problem is in train mode, where the loss is that of one dropout mask and of the "
            "batch's BatchNorm statistics: give a problem with mode='eval'"
        )


def check_at_start(regularizer: Regularizer, problem: Problem, theta: Tensor) -> None:
    """Check at the first point of a walk that a regularizer is a number there.

    Raises:
        InputError: see `Regularizer.value_and_gradient`; derivatives of the network are wrong.
        NonFiniteError: R or its gradient is NaN or infinite.
    """
    check_derivatives(problem)
    value, gradient = regularizer.value_and_gradient(problem, theta)
    largest = float(gradient.abs().max())
    for what, number in (("", value), ("the gradient of ", largest)):
        if not torch.isfinite(torch.tensor(number)):
            raise NonFiniteError(
                f"{what}the regularizer {regularizer.name} is {number} at the start: check it, or "
                "take another"
            )
