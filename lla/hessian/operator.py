"""The Hessian of a problem's loss as an operator on flat vectors."""

from __future__ import annotations

import copy
import math
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lla.arguments import whole_number
from lla.batches import Batch
from lla.door import check_derivatives
from lla.errors import InputError, first_line, out_of_memory
from lla.free_memory import available_memory
from lla.hessian.products import routes
from lla.hessian.products.linearize import warm_up
from lla.hessian.products.replay import signature
from lla.hessian.products.routes import ROUTES, Context, Function, Product, Recording, RouteName
from lla.hessian.symmetric import SymmetricOperator
from lla.parameters import ParameterSpace, Pattern
from lla.precision import full_precision
from lla.probes import gaussian
from lla.problem import Problem


class RouteError(InputError):
    """The product of a route that was asked for by name is not that of double backward."""


_MANY = 2**53  # products; more are as many, and fit into no float


@dataclass(frozen=True)
class RouteTrial:
    """The measurement of one route on the first batch, or why it was left out."""

    route: RouteName
    seconds: float | None = None  # one product, all batches together
    kept_bytes: int | None = None  # bytes held between products, all batches together
    reason: str | None = None  # why the route was not taken
    setup: float | None = None  # seconds to record and check the products of all batches

    def cost(self, products: int) -> float:
        """Seconds for a number of products, with all that comes before them."""
        return (self.setup or 0.0) + products * (self.seconds or 0.0)


class HessianOperator(SymmetricOperator):
    """H(theta), the matrix [P, P] of second derivatives of the mean loss, through its products.

    The operator is that of the weights at its construction; further training does not change it.
    Products are exact, in the problem's type, and the batches are weighted as in the loss.

    Args:
        problem: model, batches, loss and mode.
        parameters: glob, regular expression ("re:..." or compiled) or several that select the
            parameters; the result is that diagonal block of the Hessian. None takes all.
        route: "linearized", "retained" or "fresh", see `lla.hessian.products.routes`. None
            measures the first two on the first batch and takes the one that fits into memory and
            is faster for the expected number of products, else "fresh". A route other than "fresh"
            is first compared, batch by batch, with double backward on its second and third call.
        memory: bytes that routes may keep between products; half of what is free by default.
        products: about how many products will be made. Recording and checking the linearised
            product of a small batch takes as long as many of its products. The values do not depend
            on it, except for rounding.

    Attributes:
        route: the route taken.
        trials: the measurement of each route.
        matvecs: products with all of the data made so far.

    Raises:
        InputError: what is given is no problem, a pattern matches nothing, an unknown route, a
            given route whose product is not that of double backward, or wrong derivatives
            (`lla.door`).
        NonFiniteError: the loss of a batch is not finite.

    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> x, y = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 1)
    >>> problem = Problem(model, (x, y), loss=torch.nn.functional.mse_loss)
    >>> HessianOperator(problem) @ torch.ones(2)  # 2/n x'x
    tensor([1., 4.])
    """

    kind = "Hessian"

    def __init__(
        self,
        problem: Problem,
        parameters: Pattern | Sequence[Pattern] | None = None,
        route: RouteName | None = None,
        memory: int | None = None,
        products: int = 100,
    ) -> None:
        if not isinstance(problem, Problem):
            raise InputError(
                f"HessianOperator takes a Problem, not {type(problem).__name__}: give it "
                "lla.Problem(model, batches, loss)"
            )
        routes.check_route(route)
        self._products = min(whole_number("products", products, 0), _MANY)
        memory = None if memory is None else whole_number("memory", memory, 0)
        self.problem = problem
        self.space = problem.space.select(parameters)
        self.theta = problem.theta(parameters)  # [P]
        super().__init__(self.space.size, self.space.dtype, self.space.device)
        self.ranks = problem.ranks
        some = f", {self.space.size} of {problem.space.size} parameters"
        self.about = problem.about + (some if self.space.size < problem.space.size else "")
        self._state = problem.state()
        problem.loss()  # raises if a batch's loss is not finite
        memory = available_memory(self.device) // 2 if memory is None else memory
        self.trials: tuple[RouteTrial, ...] = ()
        self._kept: list[Product] = []  # one a batch, none for "fresh"
        self._named = route is not None
        with self.ranks.agreed(), full_precision(self.device):
            check_derivatives(problem)
            self.route: RouteName = route or self._choose(memory)
            if self.route != "fresh":
                for i, batch in enumerate(problem.own_batches):
                    if i >= len(self._kept):
                        self._kept.append(self._checked(i, batch))

    def multiplied(self, rows: Tensor) -> Tensor:
        """H applied to each row of a matrix [K, P]."""
        return self.ranks.total(lambda: self._own_part(rows), rows)

    def _own_part(self, rows: Tensor) -> Tensor:
        """The part of the product that is of this process's batches."""
        # kept products need no data, and a loader may be slow
        batches = self.problem.own_batches
        products = iter(self._kept) if self._kept else (self._make("fresh", b) for b in batches)
        shares = self.problem.shares
        if shares == (1.0,):
            return next(products)(rows)
        total = torch.zeros_like(rows)
        for share, product in zip(shares, products, strict=True):
            total.add_(product(rows), alpha=share)
        return total

    def without_kept_graphs(self, micro_batch: int | None) -> HessianOperator:
        """The same Hessian by the route "fresh", from at most `micro_batch` examples at a time.

        Raises:
            InputError: see `lla.Problem.in_micro_batches`.
        """
        other = copy.copy(self)
        if micro_batch is not None:
            other.problem = self.problem.in_micro_batches(micro_batch)
        other.route, other._kept, other.matvecs = "fresh", [], 0
        return other

    def _make(self, route: RouteName, batch: Batch) -> Product:
        arguments = route_arguments(self.problem, batch, self.space, self._state)
        data = (self._data(batch),) if route == "linearized" else ()
        return ROUTES[route](*arguments, *data)

    def _data(self, batch: Batch) -> list[Tensor]:
        """The tensors, beside theta, that a product depends on, each once."""
        leaves = [*self._state.values(), *pytree.tree_leaves((batch.x, batch.y))]
        return list({id(leaf): leaf for leaf in leaves if isinstance(leaf, Tensor)}.values())

    def _choose(self, memory: int) -> RouteName:
        """Measure the routes on the first batch, take the best that fits, keep its product."""
        batch = next(iter(self.problem.own_batches))
        whole = self.problem.examples / batch.size
        probe, count = self._probe(), len(self.problem.own_batches)
        retained, kept_bytes, expected = self._measure_retained(batch, probe)
        costs = retained[0] * count, retained[1] * whole
        trials = [_trial("retained", costs, kept_bytes * whole, memory)]
        product = None
        # the recorded run holds about the memory of two training steps
        if 3 * kept_bytes > memory:
            trials.append(RouteTrial("linearized", reason="its recorded run would not fit"))
        else:
            try:
                warm_up()
                made, product = routes.timed(lambda: self._make("linearized", batch), probe)
                tested, seconds = routes.timed(lambda: self._repeated(product, expected), probe)
                # a batch's product is compared with one of a graph that is made for this; that of
                # a later batch once, not three times
                compared = sum(retained) + tested / 3
                later = (count - 1) * (made + compared)
                if product.again is not None and count > 1:
                    # replayed and compared with a pass, each about what a graph takes; the first
                    # one is compared with double backward, too
                    later = (count - 1) * 2 * retained[0] + compared
                costs = made + sum(retained) + tested + later, seconds * whole
                trials.append(_trial("linearized", costs, product.kept_bytes * whole, memory))
            except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
                reason = first_line(error)
                trials.append(RouteTrial("linearized", reason=reason))
        self.trials = tuple(trials)
        usable = [trial for trial in trials if trial.reason is None]
        if not usable:
            return "fresh"
        route = min(usable, key=lambda trial: trial.cost(self._products)).route
        if route == "linearized" and product is not None:
            self._kept.append(product)
            self._remember(product, batch)
        return route

    def _measure_retained(
        self, batch: Batch, probe: Tensor
    ) -> tuple[tuple[float, float], int, Tensor]:
        """Seconds to record and to multiply, bytes kept, and the product to be reproduced."""
        setup, product = routes.timed(lambda: self._make("retained", batch), probe)
        product(probe)  # the first takes longer
        seconds, expected = routes.timed(lambda: product(probe), probe)
        if seconds < _SHORT:  # another process may have taken most of it
            seconds = min(
                seconds, *(routes.timed(lambda: product(probe), probe)[0] for _ in range(3))
            )
        return (setup, seconds), product.kept_bytes, expected

    def _checked(self, index: int, batch: Batch) -> Product:
        """The route's product for one batch: replayed, or compared with double backward."""
        if self.route == "retained":
            return self._make("retained", batch)
        replayed = self._replayed(batch)
        if replayed is not None:
            return replayed
        expected = self._make("retained", batch)(self._probe())
        try:
            product = self._make(self.route, batch)
            self._compare(product, expected)
            self._remember(product, batch)
        except (RuntimeError, TypeError, ValueError) as error:
            if out_of_memory(error):
                raise
            if not self._named:
                return self._make("retained", batch)
            raise RouteError(
                f"the route {self.route!r} fails for batch {index} ({first_line(error)}): take "
                "route='retained'"
            ) from error
        return product

    def _replayed(self, batch: Batch) -> Product | None:
        """The product of an earlier recording for this batch; None if there is none that is right.

        Its loss and gradient are compared with those of a pass. The first time it is used, its
        product is compared with double backward, too.
        """
        recordings, likeness = self.problem.findings.recordings, self._likeness(batch)
        recording: Recording | None = recordings.get(likeness)
        if recording is None:
            return None
        function, theta, context, backward = route_arguments(
            self.problem, batch, self.space, self._state
        )
        try:
            product = recording(function, theta, self._data(batch), context, backward)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            # what the model decides by its data is other here
            if out_of_memory(error):
                raise
            return None
        if not recording.confirmed:
            probe = self._probe()
            if not routes.agree(product(probe), self._make("retained", batch)(probe)):
                return None
            recordings[likeness] = replace(recording, confirmed=True)
        return product

    def _remember(self, product: Product, batch: Batch) -> None:
        """Keep the recording of a product that was found to be right, for batches like this one."""
        likeness, kept = self._likeness(batch), self.problem.findings.recordings
        if likeness is None or product.again is None:
            return
        kept[likeness] = product.again
        while len(kept) > _RECORDINGS:
            del kept[next(iter(kept))]

    def _likeness(self, batch: Batch) -> Hashable | None:
        """What has to be equal for a recording to fit; None if nothing may replay it."""
        found = signature(list(self._state.values()), (batch.x, batch.y))
        if found is None:
            return None
        problem, parts = self.problem, tuple((name, shape) for name, shape, _ in self.space)
        return parts, problem.mode, problem.seed, problem.dtype, found

    def _compare(self, product: Product, expected: Tensor) -> None:
        """Check a product against double backward: its first call if its graph is known to be good.

        That a graph leaves its own constants as they are is a property of its operations, which
        batches of equal shape share.
        """
        if product.recorded not in self.problem.findings.repeatable:
            self._repeated(product, expected)
        elif not routes.agree(product(self._probe()), expected):
            raise RuntimeError("product 1 differs from double backward")

    def _repeated(self, product: Product, expected: Tensor) -> float:
        """Check later calls of a product (`_check`), note that its graph is good; its seconds."""
        seconds = _check(product, self._probe(), expected)
        if product.recorded is not None:
            self.problem.findings.repeatable.add(product.recorded)
        return seconds

    def _probe(self) -> Tensor:
        """The fixed vector [1, P] that routes are checked with."""
        return gaussian(self.space.size, self.theta, 0)[None]


def check_operator(name: str, operator: object) -> None:
    """Raise an error unless what the function `name` was given is an operator."""
    if isinstance(operator, SymmetricOperator):
        return
    kind = type(operator).__name__
    made = "problem" if isinstance(operator, Problem) else "lla.Problem(model, batches, loss)"
    raise InputError(
        f"{name} takes a HessianOperator, not {kind}: give it lla.HessianOperator({made})"
    )


_SHORT = 0.02  # seconds
_RECORDINGS = 4  # that are kept: a last batch may have fewer examples


def route_arguments(
    problem: Problem, batch: Batch, space: ParameterSpace, state: dict[str, Tensor]
) -> tuple[Function, Tensor, Context, Context]:
    """What a route takes for products with the Hessian of the loss of one batch.

    Args:
        problem: the model and the loss.
        batch: one of `problem.batches`, or a part of one.
        space: the parameters.
        state: all parameters and buffers, see `lla.Problem.state`.

    Returns:
        The loss as a function of the parameters [P], the parameters, and the contexts of its calls
        and of backward passes.
    """
    theta = space.flatten(state)

    @contextmanager
    def held() -> Iterator[None]:
        with problem.deterministic(), problem.held(theta, space, state):
            yield

    return problem.batch_loss(batch, space, state), theta, problem.deterministic, held


def _check(product: Product, probe: Tensor, expected: Tensor) -> float:
    """Seconds of a product; an error unless the second and third agree with double backward.

    The first call is not enough: a graph that overwrites its own constants is right only once.
    """
    product(probe)
    fastest = math.inf
    for call in (2, 3):
        seconds, found = routes.timed(lambda: product(probe), probe)
        if not routes.agree(found, expected):
            raise RuntimeError(f"product {call} differs from double backward")
        fastest = min(fastest, seconds)
    return fastest


def _trial(
    route: RouteName, costs: tuple[float, float], kept_bytes: float, memory: int
) -> RouteTrial:
    """The trial of a route, for all batches together.

    Args:
        route: its name.
        costs: seconds to set up, and for a product.
        kept_bytes: between products.
        memory: bytes that may be kept.
    """
    setup, seconds = costs
    fits = kept_bytes <= memory
    reason = None if fits else f"would keep {kept_bytes / 2**30:.1f} GiB between products"
    return RouteTrial(route, seconds, int(kept_bytes), reason, setup)
