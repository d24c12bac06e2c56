"""FLOPs, bytes and seconds of a Hessian product, predicted and measured.

With f1 and fr the FLOPs of the forward pass in its first layer and in the rest, a layer's backward
pass takes as many again for its weights and (not the first layer) for its input: a forward and
backward pass takes 2 f1 + 3 fr. A product differentiates each of these once more. Of the products
of two matrices that gives two terms each, of which those with a derivative of the data vanish: 2 f1
+ 6 fr, or 4 passes less 6 forwards. That is the floor, just below 2 passes. A graph that is not
kept costs one pass more. A linearised product takes less than the floor where the first layer has
one input channel and is pooled: on a CPU its two terms are computed for the maxima alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import lla
from benchmarks.isolate import Peak, measured
from benchmarks.problems import NOTE, NetworkCase, configuration, device, one_product
from benchmarks.timing import in_turn, timed
from lla.hessian.memory.plans import Plan, bytes_an_example, cost_of, needed
from lla.hessian.products.routes import ROUTES, RouteName
from lla.probes import rademacher
from paper_tables.engine import machine
from paper_tables.engine.records import Record

TABLE = "cost_model"
PASS = "forward and backward"
FLOOR = 2.0  # passes
PICKED = {"lenet": 1 / 4}  # share of a first layer's positions that the pooling behind it selects

# The operations whose FLOPs are counted; all others move data.
_MATRIX = re.compile(r"aten::\w*(?:convolution\w*|mm|linear|attention\w*)")


Costs = Mapping[str, Mapping[str, float]]  # by function, then by metric


def measure(case: NetworkCase, peak: Callable[..., Peak[Any]], rounds: int = 5) -> Costs:
    """Measure one network, all its functions in turn.

    Args:
        case: the network and its batch.
        peak: calls a function in a process of its own.
        rounds: repetitions.

    Returns:
        FLOPs of a `forward` pass, and products of a `spectrum`. For a pass and for a product by
        each route: FLOPs, seconds, `setup` before the first one, the share of the time in
        convolutions and products of matrices (`matrix_share`), bytes kept between calls, and the
        peak memory that is added in a process of its own.
    """
    problem, step = case.make()
    batch = next(iter(problem.batches))
    with torch.no_grad(), problem.deterministic(), problem.holding() as network:
        forward = flops(lambda: problem.run(network, batch))
    functions: dict[str, Callable[[], object]] = {PASS: step}
    kept, setup = {}, {}
    for route in ROUTES:
        make = partial(lla.HessianOperator, problem, route=route)
        make()  # warm up: some work is done once per process
        operator, setup[route] = timed(make)
        rows = rademacher(operator.shape[0], operator.theta, 0)[None]
        functions[route] = partial(operator.rows, rows)
        kept[route] = sum(product.kept_bytes for product in operator._kept)
    times = np.median(in_turn(list(functions.values()), rounds, warmup=2), axis=0)
    counted = {name: flops(function) for name, function in functions.items()}
    picked = PICKED.get(case.name, 1.0) if problem.device.type == "cpu" else 1.0
    cost = cost_of(problem, problem.space, 0, bytes_an_example(problem, problem.space))
    spectrum = lla.spectral_density(operator, probes=2, steps=3)
    plans = [Plan(route=route) for route in ROUTES]
    table = pd.DataFrame(
        {
            "flops": counted,
            "predicted_flops": predict(forward, counted[PASS], picked),
            "seconds": dict(zip(functions, times, strict=True)),
            "matrix_share": {name: matrix_share(function) for name, function in functions.items()},
            "kept_bytes": kept,
            "predicted_peak": {
                plan.route: needed(plan, cost, problem.device).device for plan in plans
            },
            "peak": {route: peak(product_peak, case, route).result for route in ROUTES},
            "setup": setup,
        }
    ).fillna(0)  # a pass has no set-up and keeps nothing
    return {
        "forward": {"flops": forward},
        "spectrum": {"products": spectrum.matvecs, "predicted_products": 2 * 3},
        **{name: dict(table.loc[name]) for name in functions},
    }


def product_peak(case: NetworkCase, route: RouteName) -> int:
    """Bytes that an operator and one product take in this process, without network and data."""
    problem, step = case.make()
    step()
    return measured(one_product, problem, route).added


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
    """The share of a call's time that is spent in convolutions and products of matrices."""
    cuda = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * cuda]
    with profile(activities=activities) as profiler:
        function()
    averages = profiler.key_averages()
    if not cuda:
        return share({e.key: e.self_cpu_time_total for e in averages})
    # kernels are listed besides the operations that start them, whose time includes theirs
    operations = (e for e in averages if e.key.startswith("aten::"))
    return share({e.key: e.self_device_time_total for e in operations})


def share(times: Mapping[str, float]) -> float:
    """The share of all time that is spent in the operations whose FLOPs are counted.

    >>> share({"aten::addmm": 3.0, "aten::convolution_backward": 1.0, "aten::mul": 4.0})
    0.5
    """
    matrix = sum(time for key, time in times.items() if _MATRIX.fullmatch(key))
    return matrix / (sum(times.values()) or 1.0)


# --- records


def product_records(case: NetworkCase, found: Costs) -> list[Record]:
    """The records of one network: a column a function, a metric a number.

    Args:
        case: the network and its batch.
        found: what was measured.
    """
    timing = machine.environment(device())
    settings = {"network": case.name, "batch": case.batch, "shape": list(case.shape)}
    shared = partial(
        Record, table=TABLE, row=str(case), fidelity="substitute", note=NOTE, seed=0,
        dtype="float32", batch_size=case.batch,
        config=configuration(settings, timing["device"]), **timing,
    )  # fmt: skip
    return [
        shared(column=column, metric=metric, value=float(value))
        for column, values in found.items()
        for metric, value in values.items()
    ]
