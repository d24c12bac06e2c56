"""Work on the Hessian of one batch after another, each under the fastest plan that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TypeVar

from lla.hessian.operator import HessianOperator
from lla.hessian.plans import (
    Plan,
    attempt,
    bytes_an_example,
    cost_of,
    describe,
    plans,
    room_to_keep,
)
from lla.hessian.routes import RouteName, available_memory
from lla.parameters import Pattern
from lla.problem import Problem

T = TypeVar("T")


class PerBatch:
    """The Hessian of each batch in turn, in the memory that there is.

    What was measured for the first batch, the route and the plan that did not run out of memory,
    holds for the others.

    Args:
        whole: the problem of all batches.
        asked: the caller's plan.
        vectors: whole vectors [P] that the work keeps, the Lanczos basis.
        parameters: see `lla.HessianOperator`.
        memory: bytes to take on the problem's device, what is available by default.
        pooled: whether there is one Hessian, of all batches together.

    Attributes:
        route: of the products, once there were some.
    """

    def __init__(
        self,
        whole: Problem,
        asked: Plan,
        vectors: int,
        parameters: Pattern | Sequence[Pattern] | None = None,
        memory: int | None = None,
        *,
        pooled: bool = False,
    ) -> None:
        space = whole.space.select(parameters)
        example = bytes_an_example(whole, space)
        self._cost = cost_of(whole, space, vectors, example, pooled=pooled)
        self._left = available_memory(whole.device) if memory is None else memory
        self._leaner = plans(whole, asked, self._cost, memory)
        self._parameters, self._device, self._asked = parameters, whole.device, asked
        self._used: list[Plan] = []  # the last, with which the next batch begins
        self._failed: list[Plan] = []
        self._whole, self._pooled = whole, pooled
        self.route: RouteName = "fresh"

    def problems(self) -> Iterator[Problem]:
        """The problem of each Hessian, one at a time; a loader is passed over."""
        if self._pooled:
            yield self._whole
            return
        for batch in self._whole.batches:
            # a list, since a pair whose input is a pair looks like two pairs
            yield self._whole.over([(batch.x, batch.y)])

    def run(self, problem: Problem, work: Callable[[HessianOperator, Plan], T]) -> tuple[T, str]:
        """Do some work with the Hessian of a problem, anew with less memory where that ran out.

        Returns:
            What the work returned, and the plan as text.

        Raises:
            InsufficientMemoryError: it fits into memory by no plan.
        """
        (result, self.route), plan, before = attempt(
            partial(self._one, problem, work),
            chain(self._used, self._leaner),
            self._device,
        )
        self._used = [replace(plan, route=self.route)]
        self._failed += before
        return result, describe(self._used[0], self._used[0], before)

    @property
    def plan(self) -> str:
        """The plan by now, and what became of those before it."""
        return describe(self._used[0], self._asked, self._failed)

    def _one(
        self, problem: Problem, work: Callable[[HessianOperator, Plan], T], plan: Plan
    ) -> tuple[T, RouteName]:
        if plan.micro_batch is not None:
            problem = problem.in_micro_batches(plan.micro_batch, check=False)
        room = room_to_keep(plan, self._cost, self._device, self._left)
        operator = HessianOperator(problem, self._parameters, plan.route, room)
        return work(operator, plan), operator.route
