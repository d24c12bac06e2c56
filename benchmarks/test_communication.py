"""Bytes that processes send in Hessian products, against the prediction."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from benchmarks.communication import measurement
from benchmarks.communication.view import EXHIBIT
from benchmarks.problems import RGB, NetworkCase

RANKS = (2, 4)
CASES = {
    "tiny": [NetworkCase("lenet", 8, (1, 32, 32))],
    "quick": [NetworkCase("lenet", 64, (1, 32, 32)), NetworkCase("resnet20", 16, (RGB, 32, 32))],
    "paper": [
        NetworkCase("resnet20", 16, (RGB, 32, 32)),
        NetworkCase("resnet18", 4, (RGB, 64, 64)),
    ],
}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the bytes of loopback")
@pytest.mark.parametrize("ranks", RANKS)
def test_bytes_of_a_product(case: NetworkCase, ranks: int, benchmark: Any, save: Any) -> None:
    """A product sends what a ring over P numbers does, and a step one exchange more."""
    found = benchmark.pedantic(measurement.measure, args=(case, ranks), rounds=1)
    benchmark.extra_info.update(found)
    save(EXHIBIT, measurement.records(case, ranks, found))
    for what in ("product", "step"):
        # headers, and acknowledgements, are the larger part of the messages of a small network
        assert found[f"bytes_{what}"] == pytest.approx(found[f"predicted_{what}"], rel=0.1)
