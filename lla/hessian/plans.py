"""Plans: ways to make the same spectrum in less memory, from the fastest to the leanest.

A plan says how many examples a product takes at a time, whether its graph is kept or made anew
(`lla.hessian.routes`), and how the Lanczos vectors are stored. Linux lends more memory than there
is and kills the process that uses it, so plans are chosen beforehand, by an estimate; where an
allocator does refuse, the next plan is taken.

In train mode micro-batches would change the function, so there only the graph and the basis can be
saved on. Checkpointing within the network does not help: the graph of the gradient, through which
a product goes backward a second time, holds what was recomputed. To move what is saved to the host
(`torch.autograd.graph.save_on_cpu`) would leave what is only there during a product, the larger
part (`_AT_WORK`).
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from lla.batches import micro_batches
from lla.errors import InputError, InsufficientMemoryError, out_of_memory
from lla.hessian.routes import Retained, RouteName, available_memory
from lla.parameters import ParameterSpace
from lla.problem import Problem

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """One way to make a spectrum."""

    micro_batch: int | None = None  # examples that a product takes at a time; None: whole batches
    route: RouteName | None = None  # of the products; None: the fastest that fits
    basis_dtype: torch.dtype | None = None  # of the Lanczos vectors; None: the parameters'
    basis_device: str | None = None  # where they are; None: the parameters'

    def __str__(self) -> str:
        size, route = self.micro_batch, self.route
        parts = [f"micro-batches of {size}" if size else "whole batches", route or "fastest route"]
        dtype, device = self.basis_dtype, self.basis_device
        if dtype is not None or device is not None:
            stored = "" if dtype is None else f"{str(dtype).removeprefix('torch.')} "
            parts.append(f"{stored}basis" + ("" if device is None else f" on the {device}"))
        return ", ".join(parts)


@dataclass(frozen=True)
class Cost:
    """What the memory of a spectrum is made of."""

    vectors: int  # bytes of a vector for each probe at work, in the parameters' type
    basis: int  # numbers in the Lanczos basis
    itemsize: int  # bytes of such a number in the parameters' type
    example: float  # bytes that double backward keeps for an example
    batch: int  # examples of the largest batch
    examples: int  # of all batches that an operator holds


@dataclass(frozen=True)
class Need:
    """Bytes that a plan is expected to take at its peak."""

    device: int  # where the parameters are, what is there already not counted
    host: int  # beside it, when that is no CPU

    def __str__(self) -> str:
        beside = f" and {_gib(self.host)} beside the device" if self.host else ""
        return _gib(self.device) + beside


# Peak resident memory of a product beside whole vectors, in units of what double backward keeps,
# largest of ResNet20, ResNet18, SqueezeNet and ViT on CPU: 2.7 and 5.9; and kept in between
_AT_WORK = {"fresh": 2.75, "retained": 2.75, "linearized": 6.0, None: 2.75}
_BETWEEN = {"fresh": 0.0, "retained": 1.0, "linearized": 2.25, None: 0.0}
# whole vectors at the peak of criteria: weights, gradient, product, Lanczos; 12 measured for a
# perceptron of 21 million parameters, 18 where the allocator is tuned to keep what was freed
_VECTORS = 15


def cost_of(
    problem: Problem,
    space: ParameterSpace,
    vectors: int,
    example: float,
    together: int = 1,
    pooled: bool = True,
) -> Cost:
    """What the memory of a spectrum is made of.

    Args:
        problem: model, batches, loss and mode.
        space: the parameters of the Hessian.
        vectors: in the Lanczos basis of a probe.
        example: see `bytes_an_example`.
        together: probes that advance side by side.
        pooled: whether one operator holds all batches, or each batch has one of its own.
    """
    return Cost(
        vectors=together * space.size * space.dtype.itemsize,
        basis=vectors * together * space.size,
        itemsize=space.dtype.itemsize,
        example=example,
        batch=max(problem.batch_sizes),
        examples=problem.examples if pooled else max(problem.batch_sizes),
    )


def bytes_an_example(problem: Problem, space: ParameterSpace) -> float:
    """Bytes that double backward keeps for an example; 0 where the batch cannot be cut.

    It is the difference between four examples and two, so that what does not grow with the batch
    is left out, and BatchNorm has statistics in train mode. It costs those two gradients.
    """
    batch, state = next(iter(problem.batches)), problem.state()
    theta = space.read(problem.network)
    kept = {}
    for size in (4, 2):
        try:
            first = problem.over(micro_batches(batch, size)[:1])
            (part,) = first.batches
            function = first.batch_loss(part, space, state)
            kept[part.size] = Retained(function, theta, problem.deterministic).kept_bytes
        except (InputError, RuntimeError, TypeError, ValueError, IndexError):
            # a model or a loss for batches of one size: the network itself says what is wrong
            return 0.0
    if len(kept) == 1:
        return next(iter(kept.values())) / batch.size
    (large, more), (small, less) = kept.items()
    return max(0.0, (more - less) / (large - small))


def needed(plan: Plan, cost: Cost, device: torch.device) -> Need:
    """Bytes that a plan is expected to take at its peak."""
    at_once = min(plan.micro_batch or cost.batch, cost.batch)
    graphs = cost.example * (
        _AT_WORK[plan.route] * at_once + _BETWEEN[plan.route] * (cost.examples - at_once)
    )
    work = math.ceil(_VECTORS * cost.vectors + graphs)
    itemsize = cost.itemsize if plan.basis_dtype is None else plan.basis_dtype.itemsize
    basis = cost.basis * itemsize
    beside = plan.basis_device is not None and torch.device(plan.basis_device).type != device.type
    return Need(work, basis) if beside else Need(work + basis, 0)


def room_to_keep(plan: Plan, cost: Cost, device: torch.device, memory: int) -> int:
    """Bytes that the routes may keep between products, for `lla.HessianOperator`.

    Half of what vectors and basis leave, as there, and what a product takes beside its own graph.
    """
    left = memory - needed(plan, replace(cost, example=0.0), device).device
    graph = cost.example * min(plan.micro_batch or cost.batch, cost.batch)
    return max(0, min(left // 2, math.floor(left - (_AT_WORK[plan.route] - 1) * graph)))


def storages(
    asked: Plan, cost: Cost, device: torch.device
) -> Iterator[tuple[torch.dtype | None, str | None]]:
    """Types and devices of the basis: as asked, then first those that leave the numbers alone."""
    devices, dtypes = [asked.basis_device], [asked.basis_dtype]
    if cost.basis > 0:  # the legacy process keeps none
        if device.type != "cpu" and asked.basis_device is None:
            devices.append("cpu")
        present = cost.itemsize if asked.basis_dtype is None else asked.basis_dtype.itemsize
        dtypes += [t for t in (torch.float32, torch.bfloat16) if t.itemsize < present]
    for dtype in dtypes:
        for where in devices:
            yield dtype, where


def plans(problem: Problem, asked: Plan, cost: Cost, memory: int | None = None) -> Iterator[Plan]:
    """The plans that should fit, from the fastest to the leanest, each asked for as it is needed.

    First what was asked for; then, with the basis as asked, "fresh" in place of a kept graph, and
    in eval mode micro-batches of half the size, a quarter, ... down to one example. Then the same
    with the basis on the CPU beside another device, in float32 beside float64, and in bfloat16.
    After a plan has failed, none follows that should need more than it.

    Args:
        problem: the whole of the data.
        asked: the caller's plan. Where it names both route and micro-batches and no memory is
            given, it comes first whatever it needs.
        cost: what the memory is made of.
        memory: bytes on the problem's device, all that is available by default.

    Raises:
        InsufficientMemoryError: not even the leanest should fit.
    """
    device = problem.device
    exact = memory is None and asked.route is not None and asked.micro_batch is not None
    memory = available_memory(device) if memory is None else memory
    host = available_memory(torch.device("cpu"))
    failed, leanest = math.inf, asked
    for plan in _ladder(problem, asked, cost):
        need = needed(plan, cost, device)
        fits = need.device <= min(memory, failed) and need.host <= host
        if fits or (exact and plan == asked):
            yield plan
            failed = need.device
        leanest = min(leanest, plan, key=lambda p: needed(p, cost, device).device)
    if failed == math.inf:
        raise InsufficientMemoryError(
            f"no plan fits into {_gib(memory)}: the leanest ({leanest}) takes about "
            f"{needed(leanest, cost, device)}, so take fewer steps or parameters, or give a larger "
            "memory= to try it all the same"
        )


def _ladder(problem: Problem, asked: Plan, cost: Cost) -> Iterator[Plan]:
    """All plans in order; whether batches can be cut is found out after the first."""
    yield asked
    products: list[tuple[int | None, RouteName | None]] = [
        (asked.micro_batch, asked.route),
        (asked.micro_batch, "fresh"),
    ]
    size = min(asked.micro_batch or cost.batch, cost.batch)
    if _can_be_cut(problem, size // 2):
        while size > 1:
            size //= 2
            products.append((size, "fresh"))
    for dtype, where in storages(asked, cost, problem.device):
        for micro_batch, route in dict.fromkeys(products):
            plan = Plan(micro_batch, route, dtype, where)
            if plan != asked:
                yield plan


def _can_be_cut(problem: Problem, size: int) -> bool:
    """Whether micro-batches give the function of the whole batches."""
    if size < 1 or problem.mode == "train":
        return False
    try:
        problem.in_micro_batches(size)
    except InputError:  # nobody asked for micro-batches: other plans remain
        return False
    return True


def attempt(
    run: Callable[[Plan], T], candidates: Iterable[Plan], device: torch.device
) -> tuple[T, Plan, tuple[Plan, ...]]:
    """Run under each plan in turn until the memory suffices.

    Args:
        run: what to do under a plan.
        candidates: plans, see `plans`.
        device: whose memory is freed after a failure.

    Returns:
        What `run` returned, under which plan, and the plans before it that ran out of memory.

    Raises:
        InsufficientMemoryError: all ran out of memory; they are listed.
        Exception: any other error of `run`, as it was.
    """
    failed: list[Plan] = []
    reason = ""
    for plan in candidates:
        try:
            return run(plan), plan, tuple(failed)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            reason = str(error).strip().split("\n")[0]
        # outside of the handler, where the error no longer holds the frames and their tensors
        failed.append(plan)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    raise InsufficientMemoryError(
        f"{len(failed)} plans ran out of memory ({'; '.join(map(str, failed))}), the last with "
        f"{reason!r}: take fewer steps or parameters, or a smaller batch"
    )


def describe(used: Plan, asked: Plan, failed: Iterable[Plan]) -> str:
    """The plan that was used, and what became of those before it."""
    failed = list(failed)
    notes = [f"out of memory: {'; '.join(map(str, failed))}"] if failed else []
    as_asked = used == replace(asked, route=asked.route or used.route)
    if asked not in failed and not as_asked:
        notes.insert(0, f"too large: {asked}")
    return str(used) + (f" ({'; '.join(notes)})" if notes else "")


def _gib(amount: float) -> str:
    return f"{amount / 2**30:.2f} GiB"
