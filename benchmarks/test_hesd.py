"""What of a HESD is not products, and that the Lanczos vectors stay orthogonal."""

from __future__ import annotations

from typing import Any

import torch

import lla
from benchmarks.measure import Ratio, Timed, alternate, repeated, seconds
from benchmarks.problems import CASES, Case, one_spectrum  # noqa: F401  CASES: see conftest
from lla.hessian.lanczos.process import Lanczos
from lla.probes import rademacher

STEPS = {"tiny": 5, "quick": 100, "paper": 100}
SHORT = {"tiny": 3, "quick": 10, "paper": 10}  # steps of one repetition of what is tracked


def test_share_outside_products(
    case: Case, size: str, benchmark: Any, environment: dict[str, object]
) -> None:
    """Reorthogonalisation, T and all else stay a small part of one run of 100 steps."""
    problem, _ = case.make()
    made: list[lla.HessianOperator] = []
    setup = seconds(lambda: made.append(lla.HessianOperator(problem)))
    operator = made[0]
    timed = Timed(operator)
    timed.rows(rademacher(operator.shape[0], operator.theta, 9)[None])
    timed.in_products = 0.0
    steps = STEPS[size]
    spent: list[float] = []

    def spectrum() -> None:
        lla.spectral_density(timed, probes=1, steps=steps)  # type: ignore[arg-type]

    benchmark.pedantic(lambda: spent.append(seconds(spectrum)), rounds=1)
    (total,) = spent
    share = 1 - timed.in_products / total
    benchmark.extra_info.update(
        environment,
        steps=steps,
        total_s=total,
        products_s=timed.in_products,
        share_outside_products=share,
        operator_setup_s=setup,
    )
    assert share <= case.overhead_limit


def test_spectrum_in_passes(case: Case, size: str, benchmark: Any, track: Any, peak: Any) -> None:
    """A short spectrum against as many forward and backward passes."""
    problem, step = case.make()
    operator, steps = lla.HessianOperator(problem), SHORT[size]

    def spectrum() -> lla.Spectrum:
        return lla.spectral_density(operator, probes=1, steps=steps)

    ratio = Ratio.of(*alternate(spectrum, repeated(step, steps), rounds=4, warmup=1))
    products = benchmark.pedantic(spectrum, rounds=1).matvecs
    memory = peak(one_spectrum, case, steps)
    track(f"spectrum of {steps} steps", str(case), ratio, products, memory.bytes)
    benchmark.extra_info.update(ratio_to_passes=ratio.median, peak_bytes=memory.bytes)
    assert memory.result == products


def test_orthogonality(case: Case, size: str) -> None:
    """max|VV' - I| <= 1e-5 in float32 after 100 steps."""
    problem, _ = case.make()
    operator, steps = lla.HessianOperator(problem), STEPS[size]
    lanczos = Lanczos(operator, rademacher(operator.shape[0], operator.theta, 0)[None], steps)
    lanczos.advance(steps)
    vectors = lanczos.basis.vectors(0, steps)[0].double()
    defect = (vectors @ vectors.T - torch.eye(steps, device=vectors.device)).abs().max()
    assert float(defect) <= 1e-5
