"""The time of a HESD outside products, and the orthogonality of its Lanczos vectors."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import lla
from benchmarks.problems import CASES, NetworkCase, one_spectrum  # noqa: F401  see conftest
from benchmarks.timing import Ratio, in_turn, repeated, timed
from lla.hessian.lanczos.process import Lanczos
from lla.probes import rademacher

STEPS = {"tiny": 5, "quick": 100, "paper": 100}
SHORT = {"tiny": 3, "quick": 10, "paper": 10}  # steps of the tracked benchmark


@pytest.mark.usefixtures("environment")
def test_share_outside_products(
    case: NetworkCase, size: str, benchmark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which share of one run of 100 steps reorthogonalisation, T and the rest take."""
    problem, _ = case.make()
    operator, setup = timed(lambda: lla.HessianOperator(problem))
    rows, steps, in_products = operator.rows, STEPS[size], []
    rows(rademacher(operator.shape[0], operator.theta, 9)[None])

    def watched(vectors: Tensor) -> Tensor:
        product, seconds = timed(lambda: rows(vectors))
        in_products.append(seconds)
        return product

    monkeypatch.setattr(operator, "rows", watched)
    spectrum = partial(lla.spectral_density, operator, probes=1, steps=steps)
    _, total = benchmark.pedantic(timed, args=(spectrum,), rounds=1)
    share = 1 - sum(in_products) / total
    benchmark.extra_info.update(
        steps=steps,
        total_s=total,
        products_s=sum(in_products),
        share_outside_products=share,
        operator_setup_s=setup,
    )
    assert 0 <= share < 1


def test_spectrum_in_passes(
    case: NetworkCase, size: str, benchmark: Any, track: Any, peak: Any
) -> None:
    """A short spectrum against as many forward and backward passes."""
    problem, step = case.make()
    operator, steps = lla.HessianOperator(problem), SHORT[size]
    spectrum = partial(lla.spectral_density, operator, probes=1, steps=steps)
    ratio = Ratio.of(*in_turn([spectrum, repeated(step, steps)], rounds=4, warmup=1).T)
    products = benchmark.pedantic(spectrum, rounds=1).matvecs
    memory = peak(one_spectrum, case, steps)
    track(f"spectrum of {steps} steps", case, ratio, products=products, peak_bytes=memory.bytes)
    assert memory.result == products


def test_orthogonality(case: NetworkCase, size: str) -> None:
    """max|VV' - I| <= 1e-5 in float32 after 100 steps."""
    problem, _ = case.make()
    operator, steps = lla.HessianOperator(problem), STEPS[size]
    lanczos = Lanczos(operator, rademacher(operator.shape[0], operator.theta, 0)[None], steps)
    lanczos.advance(steps)
    vectors = lanczos.basis.vectors(0, steps)[0].double()
    defect = (vectors @ vectors.T - torch.eye(steps, device=vectors.device)).abs().max()
    assert float(defect) <= 1e-5
