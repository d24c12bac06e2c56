"""FLOPs, bytes and seconds of Hessian products, compared with predictions."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.cost_model import measurement
from benchmarks.cost_model.view import EXHIBIT
from benchmarks.problems import RGB, NetworkCase

_SMALL = [
    NetworkCase("lenet", 512, (1, 32, 32)),
    NetworkCase("resnet20", 32, (RGB, 32, 32)),
    NetworkCase("squeezenet1_1", 8, (RGB, 128, 128)),
]
CASES = {
    "tiny": [NetworkCase("lenet", 8, (1, 32, 32))],
    "quick": [*_SMALL, NetworkCase("resnet18", 4, (RGB, 128, 128))],
    "paper": [
        *_SMALL,
        NetworkCase("resnet18", 64, (RGB, 224, 224)),
        NetworkCase("resnet50", 16, (RGB, 224, 224)),
        NetworkCase("vit_tiny_patch16_224", 8, (RGB, 224, 224)),
    ],
}


def test_cost_of_a_product(case: NetworkCase, benchmark: Any, peak: Any, save: Any) -> None:
    """Counted FLOPs are the predicted ones; the peak stays below its estimate."""
    found = benchmark.pedantic(measurement.measure, args=(case, peak), rounds=1)
    new = measurement.product_records(case, found)
    benchmark.extra_info.update({f"{r.column} {r.metric}": r.value for r in new})
    save(EXHIBIT, new)
    spectrum, product = found["spectrum"], found["linearized"]
    assert spectrum["products"] == spectrum["predicted_products"]
    assert product["flops"] == pytest.approx(product["predicted_flops"], rel=0.02)
