"""What a Hessian product costs in units of one forward and backward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import lla
from benchmarks.measure import Ratio, alternate
from benchmarks.problems import CASES, Case, product_of  # noqa: F401  CASES: see conftest
from lla.hessian.products.routes import ROUTES, RouteName
from lla.probes import rademacher


@pytest.mark.parametrize("route", [None, *ROUTES], ids=lambda route: route or "default")
def test_product_in_passes(
    case: Case,
    route: RouteName | None,
    benchmark: Any,
    environment: dict[str, object],
    track: Any,
    peak: Any,
) -> None:
    """A product of the default route stays below the case's limit."""
    problem, step = case.make()
    operator = lla.HessianOperator(problem, route=route)
    rows = rademacher(operator.shape[0], operator.theta, 0)[None]
    product, passes = alternate(lambda: operator.rows(rows), step, rounds=11, warmup=2)
    ratio = Ratio.of(product, passes)
    memory = peak(product_of, case, route)
    track(f"product {route or 'default'}", str(case), ratio, 1, memory.bytes)
    benchmark.extra_info.update(
        environment,
        route=operator.route,
        batch=case.batch,
        passes_ms=float(np.median(passes) * 1e3),
        product_ms=float(np.median(product) * 1e3),
        ratio_to_pass=ratio.median,
        peak_bytes=memory.bytes,
    )
    benchmark.pedantic(operator.rows, args=(rows,), rounds=3)
    if route is None and environment["allocator_tuned"]:
        assert ratio.median <= case.product_limit


@pytest.mark.parametrize("columns", [1, 8])
def test_columns(case: Case, columns: int, benchmark: Any, environment: dict[str, object]) -> None:
    """Several vectors at once cost no more each than one alone, but for noise."""
    problem, step = case.make()
    operator = lla.HessianOperator(problem, route="linearized")
    rows = torch.stack([rademacher(operator.shape[0], operator.theta, i) for i in range(columns)])
    operator.rows(rows)  # chooses how several go through
    product, passes = alternate(lambda: operator.rows(rows), step, rounds=3, warmup=1)
    ratio = float(np.median(product) / np.median(passes) / columns)
    benchmark.extra_info.update(environment, columns=columns, ratio_to_pass_each=ratio)
    benchmark.pedantic(operator.rows, args=(rows,), rounds=1)
    assert ratio <= 1.25 * case.product_limit
