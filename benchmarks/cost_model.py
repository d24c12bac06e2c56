"""FLOPs, bytes and products of a Hessian product: predicted, counted, and what seconds they take.

With f1 and fr the FLOPs of the forward pass in its first layer and in the rest, a layer's backward
pass takes as many again for its weights and, but for the first, for its input: a forward and
backward pass takes 2 f1 + 3 fr. A product differentiates each of these once more. Of the products
of two matrices that gives two terms each, of which those with a derivative of the data vanish: 2 f1
+ 6 fr, or 4 passes less 6 forwards. That is the floor, just below 2 passes. A graph that is not
kept costs one pass more. A linearised product takes less than the floor where the first layer has
one input channel and is pooled: on a CPU its two terms are computed for the maxima alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import lla
from benchmarks.isolate import Peak
from benchmarks.measure import in_turn, seconds
from benchmarks.problems import Case, one_product
from lla import records
from lla.hessian.memory.plans import Plan, bytes_an_example, cost_of, needed
from lla.hessian.products.routes import ROUTES, RouteName
from lla.probes import rademacher
from lla.records import Record

TABLE = "cost_model"
FILE = "cost_model.jsonl"
PASS = "forward and backward"
FLOOR = 2.0  # passes
PICKED = {"lenet": 1 / 4}  # of a first layer's positions, by the pooling behind it

# Operations that the FLOPs are counted in; all else moves data.
_MATRIX = re.compile(r"aten::\w*(?:convolution\w*|mm|linear|attention\w*)")


@dataclass(frozen=True)
class Work:
    """What one function does."""

    flops: int  # counted
    predicted_flops: int
    seconds: float
    matrix_share: float  # of its time in convolutions and products of matrices
    kept_bytes: int = 0  # between calls
    predicted_peak: int = 0  # bytes beside what the process holds before
    peak: int = 0  # the same, measured in a process of its own
    setup: float = 0.0  # seconds before the first product


@dataclass(frozen=True)
class Model:
    """What a pass and a product by each route do for one network."""

    forward_flops: int
    works: dict[str, Work]  # `PASS`, then the routes
    products: int  # that a short spectrum made
    predicted_products: int


def measure(case: Case, peak: Callable[..., Peak[Any]], rounds: int = 5) -> Model:
    """Measure one network, all its functions in turn.

    Args:
        case: the network and its batch.
        peak: calls a function in a process of its own.
        rounds: repetitions.
    """
    problem, step = case.make()
    batch = next(iter(problem.batches))
    with torch.no_grad():
        forward = flops(lambda: problem.network(batch.x))
    functions: dict[str, Callable[[], object]] = {PASS: step}
    kept, setup = {PASS: 0}, {PASS: 0.0}
    for route in ROUTES:
        made: list[lla.HessianOperator] = []
        _make(problem, route, made)  # what happens once a process
        setup[route] = seconds(partial(_make, problem, route, made))
        operator = made.pop()
        made.clear()
        rows = rademacher(operator.shape[0], operator.theta, 0)[None]
        functions[route] = partial(operator.rows, rows)
        kept[route] = sum(product.kept_bytes for product in operator._kept)
    times = np.median(in_turn(list(functions.values()), rounds, warmup=2), axis=0)
    counted = {name: flops(function) for name, function in functions.items()}
    picked = PICKED.get(case.name, 1.0) if problem.device.type == "cpu" else 1.0
    predicted = predict(forward, counted[PASS], picked)
    example = bytes_an_example(problem, problem.space)
    spectrum = lla.spectral_density(operator, probes=2, steps=3)
    works = {}
    for name, duration in zip(functions, times, strict=True):
        memory = {}
        if name != PASS:
            cost = cost_of(problem, problem.space, 0, example)
            need = needed(Plan(route=name), cost, problem.device)  # type: ignore[arg-type]
            memory = {
                "predicted_peak": need.device,
                "peak": peak(product_peak, case, name).result,
            }
        works[name] = Work(
            flops=counted[name],
            predicted_flops=predicted[name],
            seconds=float(duration),
            matrix_share=matrix_share(functions[name]),
            kept_bytes=kept[name],
            setup=setup[name],
            **memory,
        )
    return Model(forward, works, spectrum.matvecs, 6)


def _make(problem: lla.Problem, route: RouteName, into: list[lla.HessianOperator]) -> None:
    into.append(lla.HessianOperator(problem, route=route))


def product_peak(case: Case, route: RouteName) -> int:
    """Bytes that an operator and one product take beyond network and data, in this process."""
    problem, step = case.make()
    step()
    device = problem.device
    records.reset_peak_memory(device)
    before = records.peak_memory(device)
    one_product(problem, route)
    return records.peak_memory(device) - before


def predict(forward: int, step: int, picked: float = 1.0) -> dict[str, int]:
    """FLOPs of a pass and of a product by each route.

    Args:
        forward: FLOPs of a forward pass.
        step: of a forward and backward pass.
        picked: the share of the first layer's positions that a linearised product computes.

    >>> predict(100, 290)  # f1 = 10, fr = 90
    {'forward and backward': 290, 'linearized': 560, 'retained': 560, 'fresh': 850}
    >>> predict(100, 290, picked=0.25)["linearized"]
    545
    """
    product, first = 4 * step - 6 * forward, 3 * forward - step
    extra: dict[RouteName, int] = {
        "linearized": round(2 * (picked - 1) * first),
        "retained": 0,
        "fresh": step,
    }
    return {PASS: step} | {route: product + extra[route] for route in ROUTES}


def flops(function: Callable[[], object]) -> int:
    """Floating-point operations of convolutions and products of matrices in one call."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def matrix_share(function: Callable[[], object]) -> float:
    """The share of one call's time that convolutions and products of matrices take."""
    if not torch.cuda.is_available():
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            function()
        return share({e.key: e.self_cpu_time_total for e in profiler.key_averages()})
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        function()
    # kernels stand beside the operations that start them, which have their time already
    averages = [e for e in profiler.key_averages() if e.key.startswith("aten::")]
    return share({e.key: e.self_device_time_total for e in averages})


def share(times: Mapping[str, float]) -> float:
    """The part of all time that lies in operations that FLOPs are counted in.

    >>> share({"aten::addmm": 3.0, "aten::convolution_backward": 1.0, "aten::mul": 4.0})
    0.5
    """
    matrix = sum(time for key, time in times.items() if _MATRIX.fullmatch(key))
    return matrix / (sum(times.values()) or 1.0)


# --- records and table


def entries(case: Case, found: Model, allocator_tuned: bool) -> list[Record]:
    """The records of one network: a column a function, a metric a number.

    Args:
        case: the network and its batch.
        found: what was measured.
        allocator_tuned: whether the allocator was tuned.
    """
    facts: dict[str, Any] = {
        "table": TABLE,
        "row": str(case),
        "fidelity": "substitute",
        "note": "at initialisation, on noise: costs do not depend on values",
        "seed": 0,
        "dtype": "float32",
        "batch_size": case.batch,
        "allocator_tuned": allocator_tuned,
        **records.environment("cuda" if torch.cuda.is_available() else "cpu"),
    }
    facts["config"] = {"network": case.name, "batch": case.batch, "shape": list(case.shape)}
    result = [
        Record(column="forward", metric="flops", value=float(found.forward_flops), **facts),
        Record(column="spectrum", metric="products", value=float(found.products), **facts),
        Record(column="spectrum", metric="predicted_products",
               value=float(found.predicted_products), **facts),
    ]  # fmt: skip
    for name, work in found.works.items():
        for metric, value in asdict(work).items():
            result.append(Record(column=name, metric=metric, value=float(value), **facts))
    return result


def save(new: Sequence[Record], results: Path) -> None:
    """Put the records of one network in the place of its earlier ones, and write the table.

    Args:
        new: records of one network.
        results: the folder of results.
    """
    folder, place = results / "benchmarks", (new[0].row, new[0].device)
    records.update_records(
        folder / FILE,
        lambda old: [r for r in old if (r.row, r.device) != place] + list(new),
    )
    records.atomic_write(folder / "cost_model.md", render(records.read_records(folder / FILE)))


HEADERS = ("network", "route", "seconds in passes", "of the floor", "FLOPs in passes", "predicted",
           "slower matrices", "beside matrices", "set-up in products", "kept MiB", "peak MiB",
           "estimated")  # fmt: skip

TEXT = """# What a Hessian product costs, and why

In units of one forward and backward pass of the same network, measured in turn. By counting \
products of matrices a product cannot be had below 4 passes less 6 forward passes, just under the \
floor of 2 passes (the first layer has no gradient with respect to the data); *fresh* builds the \
graph anew, one pass more. *Linearized* needs less where a first layer over one channel is pooled, \
as LeNet's: it is computed for the maxima alone. *FLOPs in passes* are counted \
(`FlopCounterMode`: convolutions and products of matrices), *predicted* from the FLOPs of a \
forward pass and of a pass alone; double backward counts a little more, for terms that nothing \
needs.

Seconds are the product of three columns: FLOPs, times how much *slower* they run than in a pass \
(seconds in convolutions and products of matrices for each FLOP), times how much more there is \
*beside* them (all time over the time in those, against the same of a pass: pooling, activations, \
normalisation, sums, copies). Below 1 a product does better than a pass: seconds below the floor \
mean that.

*Set-up*: what passes before the first product, check of the route included. *Kept*: between \
products. *Peak*: what a process of its own takes for one product beyond network and data, against \
the estimate that `lla.hessian.memory.plans` chooses by, which is meant to be above.
"""


def render(found: Sequence[Record]) -> str:
    """The table in Markdown.

    Args:
        found: records of all networks.
    """
    networks: dict[tuple[str, str | None], dict[tuple[str, str], Record]] = {}
    for record in found:
        cells = networks.setdefault((record.row, record.device), {})
        cells[record.column, record.metric] = record
    lines, notes = [], []
    for (row, _), cells in networks.items():
        value = {place: record.value or 0.0 for place, record in cells.items()}
        lines += [_line(row, route, value) for route in ROUTES]
        notes.append(_note(row, value, next(iter(cells.values()))))
    table = tabulate(lines, HEADERS, tablefmt="github", disable_numparse=True)
    return "\n".join([TEXT, table, "", *notes])


def _line(row: str, route: str, value: Mapping[tuple[str, str], float]) -> list[str]:
    factors = split(value, route)
    passes = value[route, "seconds"] / value[PASS, "seconds"]
    return [
        row,
        route,
        f"{passes:.2f}",
        f"{passes / FLOOR:.2f}",
        f"{factors[0]:.3f}",
        f"{value[route, 'predicted_flops'] / value[PASS, 'flops']:.3f}",
        f"{factors[1]:.2f}",
        f"{factors[2]:.2f}",
        f"{value[route, 'setup'] / value[route, 'seconds']:.1f}",
        *(f"{value[route, name] / 2**20:.0f}" for name in ("kept_bytes", "peak", "predicted_peak")),
    ]


def split(value: Mapping[tuple[str, str], float], route: str) -> tuple[float, float, float]:
    """What the seconds of a product in passes are the product of.

    Args:
        value: by column and metric.
        route: of the product.

    Returns:
        FLOPs, seconds in matrices a FLOP, all seconds over those in matrices; against a pass.
    """

    def of(metric: str) -> float:
        return value[route, metric] / value[PASS, metric]

    flops_ratio, matrices = of("flops"), of("matrix_share")
    return flops_ratio, of("seconds") * matrices / flops_ratio, 1 / matrices


def _note(row: str, value: Mapping[tuple[str, str], float], first: Record) -> str:
    """What a network's numbers come from, and what most of the distance to the floor is."""
    fastest = min(ROUTES, key=lambda route: value[route, "seconds"])
    passes = value[fastest, "seconds"] / value[PASS, "seconds"]
    names = ("the FLOPs", "the speed of convolutions and products of matrices",
             "what is done beside them")  # fmt: skip
    factors = split(value, fastest)
    # the FLOPs are what the floor is made of: what is left is one of the others
    largest = max((1, 2), key=lambda i: abs(math.log(factors[i])))
    side = "above" if passes > FLOOR else "below"
    rate = value[PASS, "flops"] / value[PASS, "seconds"] / 1e9
    return (
        f"- {row}: {first.device}, {first.threads} threads, {rate:.3g} GFLOP/s in a pass, of whose "
        f"time {value[PASS, 'matrix_share']:.0%} is in convolutions and products of matrices. The "
        f"fastest route, {fastest}, is {side} the floor by a factor of {passes / FLOOR:.2f}, most "
        f"of it by {names[largest]} ({factors[largest]:.2f}). A spectrum made "
        f"{value['spectrum', 'products']:.0f} products, as predicted "
        f"({value['spectrum', 'predicted_products']:.0f})."
    )
