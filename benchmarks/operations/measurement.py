"""Seconds, FLOPs and bytes of each kind of operation of one linearised Hessian product.

The machine's limit is what it reaches in the same run: FLOP/s of a large product of square matrices
and bytes/s of a large copy, both in float32. An operation takes at least the longer of its FLOPs
over the first and its bytes over the second (the roofline of Williams, Waterman and Patterson
2009); the limit of a kind or of a product is the sum over its operations.

torch's profiler takes the time of each operation: on a CPU the time in the operation, on a GPU that
of its kernels. What a product takes beyond them, without a profiler, is time between operations. It
is negative where the profiler makes the operations slower by more than that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._python_dispatch import TorchDispatchMode

import lla
from benchmarks.operations.counts import KINDS, flops, kind, moved
from benchmarks.problems import NOTE, Case, configuration, device
from benchmarks.timing import in_turn, median
from lla.precision import full_precision
from lla.probes import rademacher
from paper_tables.engine import machine
from paper_tables.engine.records import Record

TABLE = "operations"
PRODUCT, PASS, MACHINE = "product", "forward and backward", "machine"
ROUNDS, WARMUP = 7, 2
_LABEL = "one operation"


@dataclass(frozen=True)
class Yardsticks:
    """The sizes of what the machine's limit is measured on."""

    side: int  # of the square matrices
    elements: int  # of the copied vector

    @classmethod
    def of(cls, device_name: str) -> Yardsticks:
        """Sizes that take a tenth of a second at most, and do not fit into a cache."""
        return cls(8192 if device_name == "cuda" else 2048, 2**26)


@dataclass(frozen=True)
class Operation:
    """One call of an ATen operation."""

    kind: str
    flops: int
    bytes: int
    seconds: float


Measured = tuple[float, float | None]  # the median over rounds, and its standard error
Found = dict[str, dict[str, Measured]]  # by column, then by metric


def measure(case: Case, yardsticks: Yardsticks | None = None, rounds: int = ROUNDS) -> Found:
    """Measure one network: product, pass, yardsticks and operations in turn.

    Args:
        case: the network and its batch.
        yardsticks: sizes; large ones by default.
        rounds: repetitions.

    Returns:
        For each kind that occurs: number of `operations`, `flops`, `bytes`, `seconds`, and seconds
        at the machine's `limit`. For the product: the same, its `passes`, and the seconds `within`
        operations. Of the machine: `flops_per_second` and `bytes_per_second`.
    """
    problem, step = case.make()
    operator = lla.HessianOperator(problem, route="linearized")
    rows = rademacher(operator.shape[0], operator.theta, 0)[None]
    sizes = yardsticks or Yardsticks.of(problem.device.type)
    a, b, product = (torch.ones(sizes.side, sizes.side, device=problem.device) for _ in range(3))
    source = torch.ones(sizes.elements, device=problem.device)
    target = torch.empty_like(source)
    runs: list[list[Operation]] = []
    functions = (
        partial(operator.rows, rows),
        step,
        partial(torch.mm, a, b, out=product),
        partial(target.copy_, source),
        lambda: runs.append(observe(partial(operator.rows, rows))),
    )
    with full_precision(problem.device):
        times = in_turn(functions, rounds, WARMUP)
    rates = 2 * sizes.side**3 / times[:, 2], 2 * source.nbytes / times[:, 3]
    at_most = float(np.median(rates[0])), float(np.median(rates[1]))
    found = {name: _sums(runs[WARMUP:], name, at_most) for name in KINDS}
    whole = _sums(runs[WARMUP:], None, at_most)
    whole |= {"within": whole["seconds"], "seconds": median(times[:, 0])}
    whole |= {"passes": median(times[:, 0] / times[:, 1])}
    return {
        MACHINE: {
            "flops_per_second": median(rates[0]),
            "bytes_per_second": median(rates[1]),
        },
        PASS: {"seconds": median(times[:, 1])},
        PRODUCT: whole,
        **{name: sums for name, sums in found.items() if sums["operations"][0]},
    }


def observe(function: Callable[[], object]) -> list[Operation]:
    """The operations of one call, in order."""
    cuda = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * cuda]
    with profile(activities=activities) as profiler, _Watch() as watch:
        function()
    marks = [
        event
        for event in profiler.events()
        if event.name == _LABEL and event.device_type == DeviceType.CPU
    ]
    marks.sort(key=lambda event: event.time_range.start)
    clock = "device_time_total" if cuda else "cpu_time_total"  # microseconds
    # without the mark itself, whose time includes Python's
    seconds = [sum(getattr(c, clock) for c in mark.cpu_children) / 1e6 for mark in marks]
    return [
        Operation(name, counted, moving, each)
        for (name, counted, moving), each in zip(watch.works, seconds, strict=True)
    ]


class _Watch(TorchDispatchMode):
    """Marks the operations of a call for the profiler, and counts their work."""

    def __init__(self) -> None:
        super().__init__()
        self.works: list[tuple[str, int, int]] = []  # kind, FLOPs and bytes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with record_function(_LABEL):
            out = func(*args, **(kwargs or {}))
        self.works.append((kind(func, args), flops(func, args, out), moved(func, args, out)))
        return out


def limit(operation: Operation, flops_per_second: float, bytes_per_second: float) -> float:
    """Seconds that an operation takes at least.

    >>> limit(Operation("pointwise", flops=0, bytes=6, seconds=9.0), 100.0, 2.0)
    3.0
    """
    return max(operation.flops / flops_per_second, operation.bytes / bytes_per_second)


def _sums(
    runs: list[list[Operation]], name: str | None, at_most: tuple[float, float]
) -> dict[str, Measured]:
    """What is recorded of a kind, or of all for None, from several runs of the same operations."""
    mine = [[each for each in run if name in (None, each.kind)] for run in runs]
    first = mine[0]
    return {
        "seconds": median([sum(each.seconds for each in run) for run in mine]),
        "limit": (sum(limit(each, *at_most) for each in first), None),
        "flops": (sum(each.flops for each in first), None),
        "bytes": (sum(each.bytes for each in first), None),
        "operations": (len(first), None),
    }


# --- records


def records(case: Case, found: Found, rounds: int = ROUNDS) -> list[Record]:
    """The records of one network: a column a kind of operation, a metric a number.

    Args:
        case: the network and its batch.
        found: what was measured.
        rounds: repetitions behind it.
    """
    timing = machine.environment(device())
    settings = {"network": case.name, "batch": case.batch, "shape": list(case.shape)}
    shared = partial(
        Record, table=TABLE, row=str(case), fidelity="substitute", note=NOTE, seed=0,
        dtype="float32", batch_size=case.batch, route="linearized",
        config=configuration(settings, timing["device"]), **timing,
    )  # fmt: skip
    return [
        shared(
            column=column, metric=metric, value=float(value), stderr=stderr,
            n=None if stderr is None else rounds,
        )
        for column, values in found.items()
        for metric, (value, stderr) in values.items()
    ]  # fmt: skip
