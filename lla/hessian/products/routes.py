"""Three ways to multiply vectors with the Hessian of one batch's loss, all exact.

`fresh` builds the graph of the gradient for every call, so nothing is kept in between.
`retained` builds it once and keeps it, in about the memory of a training step for each batch.
`linearized` runs the product once and keeps what does not depend on the vector
(`lla.hessian.products.linearize`). It is the fastest, but does not work for every network.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.func import vmap

from lla.errors import InputError
from lla.free_memory import available_memory
from lla.hessian.products.linearize import LinearMap, linearize_gradient
from lla.hessian.products.replay import Replay, ReplayError
from lla.missing_derivatives import missing_derivatives_named, no_derivative
from lla.precision import ROUNDING
from lla.process_wide import filtered_warnings

T = TypeVar("T")

RouteName = Literal["linearized", "retained", "fresh"]
Function = Callable[[Tensor], Tensor]  # theta [P] -> loss of a batch
Context = Callable[[], AbstractContextManager[None]]  # random numbers and attention kernels


class Product(Protocol):
    """Multiplies the rows of a matrix [K, P] with the Hessian."""

    recorded: int | None  # of a recorded graph: equal for equal operations, whatever the constants
    again: Recording | None  # makes the product of other data, where that can be had

    @property
    def kept_bytes(self) -> int:
        """Memory held between calls."""

    def __call__(self, rows: Tensor) -> Tensor:
        """H applied to each row [K, P]."""


class Retained:
    """Double backward (Pearlmutter 1994) through a gradient graph that is kept.

    Args:
        function: theta [P] -> loss.
        theta: the point [P].
        context: of the call of the function.
        backward: of backward passes; the other routes have the same arguments.

    Raises:
        InputError: PyTorch has no second derivative of an operation.
    """

    recorded: int | None = None
    again: Recording | None = None

    def __init__(
        self,
        function: Function,
        theta: Tensor,
        context: Context,
        backward: Context = nullcontext,
    ) -> None:
        self._point = theta.detach().clone().requires_grad_()
        self._gradient: Tensor | None = None
        self._backward = backward
        self._packs: bool | None = None  # whether the model has packed what backward needs
        with context(), torch.enable_grad(), missing_derivatives_named():
            value = function(self._point)
            if value.requires_grad:
                with backward():
                    (gradient,) = torch.autograd.grad(
                        value, self._point, create_graph=True, materialize_grads=True
                    )
                self._gradient = gradient if gradient.requires_grad else None
        if any(node.name() == "torch::autograd::Error" for node in self._nodes()):
            # products would leave out what depends on it, without an error
            raise no_derivative("a function that is marked @once_differentiable")

    @property
    def kept_bytes(self) -> int:
        """Memory that the graph holds; without what a hook of the model's own packs away."""
        # the zeros of forward mode have no memory
        tensors = (
            each
            for each in self._saved()
            if isinstance(each, Tensor) and not torch._is_zerotensor(each)
        )
        storages = (tensor.untyped_storage() for tensor in tensors)
        return sum({s.data_ptr(): s.nbytes() for s in storages}.values())

    def _nodes(self) -> Iterator[Any]:
        """The nodes of the gradient's graph."""
        todo: list[Any] = [] if self._gradient is None else [self._gradient.grad_fn]
        seen: set[Any] = set()
        while todo:
            node = todo.pop()
            if node is not None and node not in seen:
                seen.add(node)
                yield node
                todo += [before for before, _ in node.next_functions]

    def _saved(self) -> Iterator[Any]:
        """What the graph saves, as it is stored.

        To unpack it would compute a checkpoint's segment again. It is read off the nodes: hooks
        that see tensors while they are saved would forbid `torch.func.grad` inside the model.
        """
        for node in self._nodes():
            for name in dir(node):
                if name.startswith("_raw_saved_"):
                    found = getattr(node, name)
                    slots = found if isinstance(found, (tuple, list)) else [found]
                    yield from (slot.data for slot in slots)

    def __call__(self, rows: Tensor) -> Tensor:
        """H applied to each row [K, P]."""
        if self._gradient is None:  # a constant or linear loss
            return torch.zeros_like(rows)
        if self._packs is None:
            self._packs = not all(x is None or isinstance(x, Tensor) for x in self._saved())
        # what a model packs, as checkpoints do, it unpacks by calling itself
        context = self._backward if self._packs else nullcontext
        with missing_derivatives_named(), context():
            products = [
                # a copy: the row of a matrix may begin where torch.view_as_complex cannot
                torch.autograd.grad(
                    self._gradient,
                    self._point,
                    row.clone(),
                    retain_graph=True,
                    materialize_grads=True,
                )[0]
                for row in rows
            ]
        return torch.stack(products)


class Fresh:
    """Double backward through a graph that is rebuilt for every call and then dropped."""

    recorded: int | None = None
    again: Recording | None = None
    kept_bytes: int = 0

    def __init__(
        self,
        function: Function,
        theta: Tensor,
        context: Context,
        backward: Context = nullcontext,
    ) -> None:
        self._arguments = (function, theta.detach(), context, backward)

    def __call__(self, rows: Tensor) -> Tensor:
        """H applied to each row [K, P]."""
        product = Retained(*self._arguments)
        product._packs = True  # to find out would take longer
        return product(rows)


class Linearized:
    """Forward over reverse mode, evaluated once up to where the vector enters.

    Several rows go through the graph one by one, or together under vmap if the first call with
    several rows shows that this is faster and right.
    """

    again: Recording | None = None

    def __init__(
        self,
        function: Function,
        theta: Tensor,
        context: Context,
        backward: Context = nullcontext,
        data: Sequence[Tensor] = (),
    ) -> None:
        point = theta.detach().clone()
        linear = linearize_gradient(function, point, context, data)
        if linear.replay is not None:
            self.again = Recording(linear.of({}), linear.replay)
        self._take(linear)

    @classmethod
    def of(cls, linear: LinearMap) -> Linearized:
        """The product with a map that is known."""
        product = object.__new__(cls)
        product._take(linear)
        return product

    def _take(self, linear: LinearMap) -> None:
        self._map = linear
        self.recorded: int | None = linear.recorded
        storages = map(Tensor.untyped_storage, linear.buffers())  # some constants share one
        self.kept_bytes = sum({s.data_ptr(): s.nbytes() for s in storages}.values())
        self._together: int | None = None  # rows a pass

    @torch.no_grad()
    def __call__(self, rows: Tensor) -> Tensor:
        """H applied to each row [K, P]."""
        if len(rows) == 1:
            row = rows[0]
            # a recorded as_strided reads from where the storage begins
            whole = row.is_contiguous() and row.storage_offset() == 0
            return self._map(row if whole else row.clone())[None]
        if self._together is None:
            self._together = _measure_together(self._map, self.kept_bytes, rows[:_TOGETHER])
        if self._together == 1:
            return torch.stack([self._map(row.clone()) for row in rows])
        return vmap(self._map, chunk_size=self._together)(rows)


@dataclass(frozen=True)
class Recording:
    """A recorded product without the data of its run.

    Attributes:
        graph: of the product, without constants.
        replay: computes the constants.
        confirmed: whether its product of other data was found to be that of double backward.
    """

    graph: LinearMap
    replay: Replay
    confirmed: bool = False

    def __call__(
        self, function: Function, theta: Tensor, data: Sequence[Tensor], context: Context,
        backward: Context,
    ) -> Linearized:  # fmt: skip
        """The product of other data, compared by loss and gradient with an ordinary pass.

        Args:
            function: theta [P] -> loss, of these data.
            theta: the point [P].
            data: tensors in the place of those of the recorded run, stored like them.
            context: of the call of the function.
            backward: of the backward pass.

        Raises:
            ReplayError: loss or gradient are others, or the gradient is zero.
        """
        point = theta.detach().clone()
        constants, value, gradient = self.replay((point, *data), context)
        own = point.clone().requires_grad_()
        expected = torch.zeros_like(point)  # of a loss that does not depend on the parameters
        with context(), torch.enable_grad():
            loss = function(own)
            if loss.requires_grad:
                with backward():
                    (expected,) = torch.autograd.grad(loss, own, materialize_grads=True)
        if not (agree(value, loss.detach()) and agree(gradient, expected)):
            raise ReplayError("the operations of another batch give another loss or gradient")
        if not expected.any():
            raise ReplayError("a gradient of zeros says nothing of the operations behind it")
        return Linearized.of(self.graph.of(constants))


_TOGETHER = 8  # rows in a vectorised pass: more are no faster on CPU and need more memory


def _measure_together(linear_map: nn.Module, kept_bytes: int, rows: Tensor) -> int:
    """How many rows to multiply at once: all of the given ones, or one."""
    # a vectorised pass holds the activations of every row, in addition to the kept ones
    if len(rows) * kept_bytes > available_memory(rows.device) // 4:
        return 1
    one_by_one, expected = timed(lambda: torch.stack([linear_map(row) for row in rows]), rows)
    try:
        # an operation without a batching rule gives a warning and is slow
        with filtered_warnings("error"):
            vmap(linear_map)(rows)
            together, found = timed(lambda: vmap(linear_map)(rows), rows)
    except (RuntimeError, UserWarning, NotImplementedError):
        return 1
    return len(rows) if together < one_by_one and agree(found, expected) else 1


def timed(function: Callable[[], T], like: Tensor) -> tuple[float, T]:
    """Seconds that one call takes on the device of a tensor, and what it returns."""
    cuda = like.device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(like.device)
    start = time.perf_counter()
    result = function()
    if cuda:
        torch.cuda.synchronize(like.device)
    return time.perf_counter() - start, result


def agree(found: Tensor, expected: Tensor) -> bool:
    """Whether two products are the same except for rounding in their type."""
    scale = torch.linalg.vector_norm(expected)
    # NaN compares as false, so it disagrees
    return bool(torch.linalg.vector_norm(found - expected) <= ROUNDING[expected.dtype] * scale)


ROUTES: dict[RouteName, Callable[..., Product]] = {
    "linearized": Linearized,
    "retained": Retained,
    "fresh": Fresh,
}


def check_route(route: str | None) -> None:
    """Raise an error unless a route is one of `ROUTES`, or None."""
    if route is not None and route not in ROUTES:
        raise InputError(f"route is {route!r}: choose one of {', '.join(ROUTES)}, or None")
