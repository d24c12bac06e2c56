"""Plans: ways to compute the same spectrum, from the fastest to the one with the least memory.

A plan says how many examples a product takes at a time, whether the product's graph is kept or
rebuilt (`lla.hessian.products.routes`), and how the Lanczos vectors are stored. Linux promises more
memory than there is and kills the process that uses it. So a plan is chosen beforehand, by an
estimate. Where an allocator refuses all the same, the next plan is tried.

In train mode micro-batches would change the function, so only the graph and the basis can be made
smaller there. Checkpointing within the network does not help: a product goes backward a second time
through the graph of the gradient, which holds what was recomputed. Moving saved tensors to the host
(`torch.autograd.graph.save_on_cpu`) would not help either: most of the memory is in use during a
product only (`_AT_WORK`).
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from lla.arguments import usable_device, whole_number
from lla.batches import micro_batches
from lla.errors import InputError, InsufficientMemoryError, out_of_memory
from lla.free_memory import available_memory
from lla.hessian.operator import route_arguments
from lla.hessian.products.routes import Retained, RouteName
from lla.parameters import ParameterSpace
from lla.problem import Problem
from lla.ranks import Ranks

T = TypeVar("T")


@dataclass(frozen=True)
class Memory:
    """Limits on memory, for the `memory` argument of `lla.criteria` and its like.

    >>> Memory(8 * 2**30, basis_dtype=torch.bfloat16).bytes // 2**30
    8
    """

    bytes: int | None = None  # to take on the model's device; None: what is available
    basis_dtype: torch.dtype | None = None  # of the stored Lanczos vectors; None: the parameters'
    basis_device: torch.device | str | None = None  # that stores them; None: the parameters'


def memory_settings(memory: Memory | int | None) -> Memory:
    """The settings of a `memory` argument; a number means bytes.

    Raises:
        InputError: a negative number of bytes, a type that is no floating type, or a device that
            is not there.
    """
    found = memory if isinstance(memory, Memory) else Memory(memory)
    if found.bytes is not None:
        whole_number("memory", found.bytes, 0)
    dtype = found.basis_dtype
    if not (dtype is None or (isinstance(dtype, torch.dtype) and dtype.is_floating_point)):
        raise InputError(f"basis_dtype is {dtype}: give a floating type, such as torch.bfloat16")
    if found.basis_device is not None:
        usable_device(found.basis_device)
    return found


@dataclass(frozen=True)
class Plan:
    """One way to make a spectrum."""

    micro_batch: int | None = None  # examples that a product takes at a time; None: whole batches
    route: RouteName | None = None  # of the products; None: the fastest that fits
    basis_dtype: torch.dtype | None = None  # of the Lanczos vectors; None: the parameters'
    basis_device: str | None = None  # device that stores them; None: the parameters'

    @classmethod
    def of(
        cls, memory: Memory, micro_batch: int | None = None, route: RouteName | None = None
    ) -> Plan:
        """The plan that a caller asks for."""
        device = None if memory.basis_device is None else str(memory.basis_device)
        return cls(micro_batch, route, memory.basis_dtype, device)

    def __str__(self) -> str:
        size, route = self.micro_batch, self.route
        parts = [f"micro-batches of {size}" if size else "whole batches", route or "fastest route"]
        if self.basis_dtype is not None or self.basis_device is not None:
            parts.append(self.basis)
        return ", ".join(parts)

    @property
    def basis(self) -> str:
        """How the Lanczos vectors are stored, as text."""
        dtype, device = self.basis_dtype, self.basis_device
        stored = "" if dtype is None else f"{str(dtype).removeprefix('torch.')} "
        return f"{stored}basis" + ("" if device is None else f" on the {device}")


@dataclass(frozen=True)
class BasisPlan(Plan):
    """A plan for an operator that is no Hessian: it says how Lanczos vectors are stored."""

    def __str__(self) -> str:
        return self.basis


@dataclass(frozen=True)
class Cost:
    """What a spectrum needs memory for."""

    vectors: int  # bytes of one vector [P] for each probe that is advanced at the same time
    basis: int  # numbers in the Lanczos basis
    itemsize: int  # bytes of one number in the parameters' type
    example: float  # bytes that double backward keeps for an example
    batch: int  # examples in the largest batch
    examples: int  # in all batches that one operator holds


@dataclass(frozen=True)
class Need:
    """Bytes that a plan is expected to take at its peak."""

    device: int  # on the parameters' device, beside what it holds already
    host: int  # in the CPU's memory, if the device is another one

    def __str__(self) -> str:
        beside = f" and {_gib(self.host)} beside the device" if self.host else ""
        return _gib(self.device) + beside


# Peak memory of a product without whole vectors, in units of what double backward keeps; on CPU
# the largest of ResNet20, ResNet18, SqueezeNet and ViT are 2.7 and 5.9
_AT_WORK = {"fresh": 2.75, "retained": 2.75, "linearized": 6.0, None: 2.75}
# memory kept between products, in the same unit
_BETWEEN = {"fresh": 0.0, "retained": 1.0, "linearized": 2.25, None: 0.0}
# whole vectors [P] at the peak (weights, gradient, product, Lanczos): 12 were measured for a
# perceptron of 21 million parameters, 18 where the allocator is tuned to keep freed memory
_VECTORS = 15


def cost_of(
    problem: Problem,
    space: ParameterSpace,
    vectors: int,
    example: float,
    together: int = 1,
    pooled: bool = True,
) -> Cost:
    """What a spectrum needs memory for.

    Args:
        problem: model, batches, loss and mode.
        space: the parameters of the Hessian.
        vectors: in the Lanczos basis of a probe.
        example: see `bytes_an_example`.
        together: probes that advance at the same time.
        pooled: whether one operator holds all batches; otherwise each batch has its own.
    """
    ranks = problem.ranks.count if pooled else 1
    return Cost(
        vectors=together * space.size * space.dtype.itemsize,
        basis=math.ceil(vectors * together * space.size / ranks),
        itemsize=space.dtype.itemsize,
        example=example,
        batch=max(problem.batch_sizes),
        examples=problem.examples if pooled else max(problem.batch_sizes),
    )


def cost_of_basis(size: int, dtype: torch.dtype, vectors: int, together: int = 1) -> Cost:
    """What a spectrum of an operator [P, P] that is no Hessian needs memory for.

    Args:
        size: P.
        dtype: of the products.
        vectors: in the Lanczos basis of a probe.
        together: probes that advance at the same time.
    """
    return Cost(
        vectors=together * size * dtype.itemsize,
        basis=vectors * together * size,
        itemsize=dtype.itemsize,
        example=0.0,
        batch=1,
        examples=1,
    )


def bytes_an_example(problem: Problem, space: ParameterSpace) -> float:
    """Bytes that double backward keeps for an example; 0 if the batch cannot be cut.

    Two gradients are recorded, from four examples and from two. Their difference leaves out what
    does not grow with the batch, and two examples are enough for BatchNorm in train mode.
    """
    batch, state = next(iter(problem.own_batches)), problem.state()
    kept = {}
    for size in (4, 2):
        try:
            (part,) = problem.over(micro_batches(batch, size)[:1]).batches
            kept[part.size] = Retained(*route_arguments(problem, part, space, state)).kept_bytes
        except (InputError, RuntimeError, TypeError, ValueError, IndexError):
            # the model or the loss may take batches of one size only
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


def bytes_to_keep(plan: Plan, cost: Cost, device: torch.device, memory: int) -> int:
    """Bytes that the routes may keep between products, for `lla.HessianOperator`.

    At most half of what the vectors and the basis leave, and never so much that a product no
    longer fits.
    """
    left = memory - needed(plan, replace(cost, example=0.0), device).device
    graph = cost.example * min(plan.micro_batch or cost.batch, cost.batch)
    return max(0, min(left // 2, math.floor(left - (_AT_WORK[plan.route] - 1) * graph)))


def basis_storages(
    asked: Plan, cost: Cost, device: torch.device
) -> Iterator[tuple[torch.dtype | None, str | None]]:
    """Types and devices of the basis: as asked, then another device, then shorter types."""
    devices, dtypes = [asked.basis_device], [asked.basis_dtype]
    if cost.basis > 0:  # the legacy process keeps no basis
        if device.type != "cpu" and asked.basis_device is None:
            devices.append("cpu")
        present = cost.itemsize if asked.basis_dtype is None else asked.basis_dtype.itemsize
        dtypes += [t for t in (torch.float32, torch.bfloat16) if t.itemsize < present]
    for dtype in dtypes:
        for where in devices:
            yield dtype, where


def plans(
    problem: Problem | None,
    asked: Plan,
    cost: Cost,
    memory: int | None = None,
    device: torch.device | None = None,
) -> Iterator[Plan]:
    """The plans that should fit, from the fastest to the one with the least memory.

    First comes what was asked for. Then, with the basis as asked, "fresh" in place of a kept graph,
    and in eval mode micro-batches of half the size, a quarter, ... down to one example. Then the
    same with the basis on the CPU (where the device is another one), in float32 (in place of
    float64), and in bfloat16. After a plan has failed, only plans that need less follow.

    Args:
        problem: the whole of the data; None for an operator that is no Hessian.
        asked: the caller's plan. If it names both a route and micro-batches, and no memory is
            given, it comes first even if the estimate says that it does not fit.
        cost: what memory is needed for.
        memory: bytes on the device; by default all that are available.
        device: of the products, the problem's by default.

    Raises:
        InsufficientMemoryError: no plan should fit.
    """
    if device is None:
        device = torch.device("cpu") if problem is None else problem.device
    exact = memory is None and asked.route is not None and asked.micro_batch is not None
    memory = available_memory(device) if memory is None else memory
    host = available_memory(torch.device("cpu"))
    failed, smallest = math.inf, asked
    for plan in _all_plans(problem, asked, cost, device):
        need = needed(plan, cost, device)
        fits = need.device <= min(memory, failed) and need.host <= host
        if fits or (exact and plan == asked):
            yield plan
            failed = need.device
        smallest = min(smallest, plan, key=lambda p: needed(p, cost, device).device)
    if failed == math.inf:
        raise InsufficientMemoryError(
            f"no plan fits into {_gib(memory)}: the smallest ({smallest}) takes about "
            f"{needed(smallest, cost, device)}, so take fewer steps or parameters, or give a "
            "larger memory= to try it all the same"
        )


def _all_plans(
    problem: Problem | None, asked: Plan, cost: Cost, device: torch.device
) -> Iterator[Plan]:
    """All plans in order; whether batches can be split is tested after the first."""
    yield asked
    products: list[tuple[int | None, RouteName | None]] = [(asked.micro_batch, asked.route)]
    if problem is not None:
        products.append((asked.micro_batch, "fresh"))
        size = min(asked.micro_batch or cost.batch, cost.batch)
        if _can_be_split(problem, size // 2):
            while size > 1:
                size //= 2
                products.append((size, "fresh"))
    for dtype, where in basis_storages(asked, cost, device):
        for micro_batch, route in dict.fromkeys(products):
            plan = type(asked)(micro_batch, route, dtype, where)
            if plan != asked:
                yield plan


def _can_be_split(problem: Problem, size: int) -> bool:
    """Whether micro-batches give the function of the whole batches."""
    if size < 1 or problem.mode == "train":
        return False
    try:
        problem.in_micro_batches(size)
    except InputError:  # there are other plans
        return False
    return True


def common(candidates: Iterator[Plan], ranks: Ranks) -> Iterator[Plan]:
    """The same plans in all processes that multiply together: those of rank 0."""
    return candidates if ranks.count == 1 else iter(ranks.of(0, list(candidates)))


def try_plans(
    run: Callable[[Plan], T], candidates: Iterable[Plan], device: torch.device
) -> tuple[T, Plan, tuple[Plan, ...]]:
    """Run under one plan after another until one does not run out of memory.

    Args:
        run: computes something under a plan.
        candidates: plans, see `plans`.
        device: whose memory is freed after a failure.

    Returns:
        What `run` returned, the plan, and the plans before it that ran out of memory.

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
        # after the handler: inside it the error still holds the frames and their tensors
        failed.append(plan)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    raise InsufficientMemoryError(
        f"{len(failed)} plans ran out of memory ({'; '.join(map(str, failed))}), the last with "
        f"{reason!r}: take fewer steps or parameters, or a smaller batch"
    )


def describe(used: Plan, asked: Plan, failed: Iterable[Plan]) -> str:
    """The plan that was used, and why earlier plans were given up, as text."""
    failed = list(failed)
    notes = [f"out of memory: {'; '.join(map(str, failed))}"] if failed else []
    as_asked = used == replace(asked, route=asked.route or used.route)
    if asked not in failed and not as_asked:
        notes.insert(0, f"too large: {asked}")
    return str(used) + (f" ({'; '.join(notes)})" if notes else "")


def _gib(amount: float) -> str:
    return f"{amount / 2**30:.2f} GiB"
