"""What a Hessian product costs in units of one forward and backward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import lla
from benchmarks.problems import CASES, NetworkCase, product_of  # noqa: F401  see conftest
from benchmarks.timing import Ratio, in_turn
from lla.hessian.products.routes import ROUTES, RouteName
from lla.probes import rademacher


@pytest.mark.parametrize("route", [None, *ROUTES], ids=lambda route: route or "default")
def test_product_in_passes(
    case: NetworkCase,
    route: RouteName | None,
    benchmark: Any,
    track: Any,
    peak: Any,
) -> None:
    """A product of each route in passes; sessions are compared, as machines differ."""
    problem, step = case.make()
    operator = lla.HessianOperator(problem, route=route)
    rows = rademacher(operator.shape[0], operator.theta, 0)[None]
    product, passes = in_turn([lambda: operator.rows(rows), step], rounds=11, warmup=2).T
    ratio = Ratio.of(product, passes)
    memory = peak(product_of, case, route)
    track(f"product {route or 'default'}", case, ratio, products=1, peak_bytes=memory.bytes)
    benchmark.extra_info.update(
        route=operator.route,
        batch=case.batch,
        passes_ms=float(np.median(passes) * 1e3),
        product_ms=float(np.median(product) * 1e3),
    )
    benchmark.pedantic(operator.rows, args=(rows,), rounds=3)


@pytest.mark.parametrize("columns", [1, 8])
@pytest.mark.usefixtures("environment")
def test_columns(case: NetworkCase, columns: int, benchmark: Any) -> None:
    """What each of several vectors at once costs, in passes."""
    problem, step = case.make()
    operator = lla.HessianOperator(problem, route="linearized")
    rows = torch.stack([rademacher(operator.shape[0], operator.theta, i) for i in range(columns)])
    operator.rows(rows)  # chooses how several go through
    product, passes = in_turn([lambda: operator.rows(rows), step], rounds=3, warmup=1).T
    ratio = float(np.median(product) / np.median(passes) / columns)
    benchmark.extra_info.update(columns=columns, ratio_to_pass_each=ratio)
    benchmark.pedantic(operator.rows, args=(rows,), rounds=1)
