"""What of a HESD is not products, and that the Lanczos vectors stay orthogonal."""

from __future__ import annotations

import pytest
import torch

import lla
from benchmarks.measure import Timed, seconds
from benchmarks.problems import CASES, Case
from lla.hessian.lanczos import Lanczos
from lla.probes import rademacher

STEPS = 100


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_share_outside_products(case: Case, benchmark, environment: dict[str, object]) -> None:
    """Reorthogonalisation, T and all else stay a small part of one run of 100 steps."""
    problem, _ = case.make()
    made: list[lla.HessianOperator] = []
    setup = seconds(lambda: made.append(lla.HessianOperator(problem)))
    timed = Timed(made[0])
    timed.rows(rademacher(timed.shape[0], timed.theta, 9)[None])
    timed.in_products = 0.0
    total = seconds(lambda: lla.spectral_density(timed, probes=1, steps=STEPS))  # type: ignore[arg-type]
    share = 1 - timed.in_products / total
    benchmark.extra_info.update(
        environment,
        steps=STEPS,
        total_s=total,
        products_s=timed.in_products,
        share_outside_products=share,
        operator_setup_s=setup,
    )
    benchmark.pedantic(
        lla.spectral_density, args=(timed,), kwargs={"probes": 1, "steps": STEPS}, rounds=1
    )
    assert share <= case.overhead_limit


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_orthogonality(case: Case) -> None:
    """max|VV' - I| <= 1e-5 in float32 after 100 steps."""
    problem, _ = case.make()
    operator = lla.HessianOperator(problem)
    lanczos = Lanczos(operator, rademacher(operator.shape[0], operator.theta, 0)[None], STEPS)
    lanczos.advance(STEPS)
    vectors = lanczos.basis.vectors(0, STEPS)[0].double()
    defect = (vectors @ vectors.T - torch.eye(STEPS, device=vectors.device)).abs().max()
    assert float(defect) <= 1e-5
