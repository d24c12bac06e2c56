"""Work on the Hessian of one batch after another, each under the fastest plan that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate, chain
from typing import TypeVar

from lla.free_memory import available_memory
from lla.hessian.memory import plans
from lla.hessian.memory.plans import Plan
from lla.hessian.operator import HessianOperator, RouteError
from lla.hessian.products.routes import RouteName
from lla.parameters import Pattern
from lla.problem import Problem
from lla.ranks import ALONE

T = TypeVar("T")


class BatchHessians:
    """The Hessian of each batch in turn, computed in the memory that is available.

    The route and the plan that worked for one batch are the first to be tried for the next.

    Args:
        whole: the problem of all batches.
        asked: the caller's plan.
        vectors: number of vectors [P] in the Lanczos basis.
        parameters: see `lla.HessianOperator`.
        memory: bytes to take on the problem's device, what is available by default.
        pooled: whether there is only one Hessian, that of all batches together.
        products: about how many products are made with each Hessian, see `lla.HessianOperator`.

    Attributes:
        count: number of Hessians.
        space: the parameters of each.
        ranks: processes that each have some of the Hessians; this one alone where they share one.
        route: of the products, once some were made.
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
        products: int = 100,
    ) -> None:
        self.count = 1 if pooled else whole.division.count
        self.space = whole.space.select(parameters)
        example = plans.bytes_an_example(whole, self.space)
        self._cost = plans.cost_of(whole, self.space, vectors, example, pooled=pooled)
        self._available = available_memory(whole.device) if memory is None else memory
        self.ranks = ALONE if pooled else whole.ranks
        ranks = whole.ranks if pooled else ALONE  # else each has Hessians of its own
        costs = ranks.gathered(self._cost)
        self._cost = max(costs, key=lambda cost: cost.example * cost.batch)
        self._available = min(ranks.gathered(self._available))
        self._candidates = plans.common(plans.plans(whole, asked, self._cost, memory), ranks)
        self._parameters, self._device, self._asked = parameters, whole.device, asked
        self._used: list[Plan] = []  # the last plan that worked, if there is one
        self._failed: list[Plan] = []
        self._whole, self._pooled, self._products = whole, pooled, products
        self.route: RouteName = "fresh"

    def problems(self) -> Iterator[tuple[int, Problem]]:
        """Number and problem of each Hessian of this process; a loader is read once."""
        if self._pooled:
            yield 0, self._whole
            return
        # a process without batches of its own holds one of another
        for index, batch in zip(
            self._whole.division.indices, self._whole.own_batches, strict=False
        ):
            yield index, self._whole.over([batch])

    def rounds(self) -> list[tuple[int, tuple[int, ...]]]:
        """The turns of all Hessians, where each process works on one of its own at a time.

        The first turn is that of a single one, because what its runs say decides on all others.

        Returns:
            For each round the number of turns before it, and whose Hessians it is about.
        """
        counts = self.ranks.gathered(1 if self._pooled else len(self._whole.division.indices))
        turns = [rank for turn in range(max(counts)) for rank, n in enumerate(counts) if turn < n]
        rounds: list[list[int]] = [turns[:1], []]
        for rank in turns[1:]:
            if rank in rounds[-1]:
                rounds.append([])
            rounds[-1].append(rank)
        before = accumulate(map(len, rounds), initial=0)
        return [(n, tuple(owners)) for n, owners in zip(before, rounds, strict=False) if owners]

    def run(self, problem: Problem, work: Callable[[HessianOperator, Plan], T]) -> tuple[T, str]:
        """Compute something from the Hessian of a problem, again with less memory if it ran out.

        Args:
            problem: one of `problems`.
            work: called with the Hessian and the plan.

        Returns:
            What `work` returned, and the plan as text.

        Raises:
            InsufficientMemoryError: it fits into memory by no plan.
        """

        def under(plan: Plan) -> tuple[T, RouteName]:
            size = plan.micro_batch
            part = problem if size is None else problem.in_micro_batches(size, check=False)
            keep = plans.bytes_to_keep(plan, self._cost, self._device, self._available)
            operator = self._operator(part, plan.route, keep)
            return work(operator, plan), operator.route

        tried = chain(self._used, self._candidates)
        (result, self.route), plan, before = plans.try_plans(under, tried, self._device)
        self._used = [replace(plan, route=self.route)]
        self._failed += before
        return result, plans.describe(self._used[0], self._used[0], before)

    def _operator(self, problem: Problem, route: RouteName | None, keep: int) -> HessianOperator:
        """The Hessian by a route; if only another batch suggested it and it fails, by "retained".

        Raises:
            InputError: see `lla.HessianOperator`.
        """
        make = partial(
            HessianOperator, problem, self._parameters, memory=keep, products=self._products
        )
        try:
            return make(route=route)
        except RouteError:
            if self._asked.route is not None:
                raise
        return make(route="retained")

    @property
    def used(self) -> bool:
        """Whether this process has made any product."""
        return bool(self._used)

    @property
    def at_once(self) -> int:
        """Examples that a product takes at a time, once some were made."""
        return self._used[0].micro_batch or self._cost.batch

    @property
    def plan(self) -> str:
        """The plan in use, and why earlier plans were given up, as text."""
        return plans.describe(self._used[0], self._asked, self._failed)
