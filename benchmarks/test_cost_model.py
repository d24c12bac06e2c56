"""FLOPs, bytes and seconds of Hessian products, against what is predicted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import cost_model
from benchmarks.problems import RGB, Case

_SMALL = [
    Case("lenet", 512, (1, 32, 32)),
    Case("resnet20", 32, (RGB, 32, 32)),
    Case("squeezenet1_1", 8, (RGB, 128, 128)),
]
CASES = {
    "tiny": [Case("lenet", 8, (1, 32, 32))],
    "quick": [*_SMALL, Case("resnet18", 4, (RGB, 128, 128))],
    "paper": [
        *_SMALL,
        Case("resnet18", 64, (RGB, 224, 224)),
        Case("resnet50", 16, (RGB, 224, 224)),
        Case("vit_tiny_patch16_224", 8, (RGB, 224, 224)),
    ],
}


def test_cost_of_a_product(
    case: Case, allocator: bool, benchmark: Any, peak: Any, results: Path | None
) -> None:
    """Counted FLOPs are the predicted ones; the peak stays below its estimate."""
    found = benchmark.pedantic(cost_model.measure, args=(case, peak), rounds=1)
    new = cost_model.entries(case, found, allocator)
    benchmark.extra_info.update({f"{r.column} {r.metric}": r.value for r in new})
    if results is not None:
        cost_model.save(new, results)
    assert found.products == found.predicted_products
    assert found.works["linearized"].flops == pytest.approx(
        found.works["linearized"].predicted_flops, rel=0.02
    )
