"""Kinds of operations of Hessian products, against the machine's limit."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.language import LanguageCase
from benchmarks.operations import measurement
from benchmarks.operations.measurement import PRODUCT, Yardsticks
from benchmarks.operations.view import EXHIBIT
from benchmarks.problems import RGB, Case, NetworkCase


def _photographs(side: int) -> list[Case]:
    """The networks for photographs of this many pixels."""
    names = ("resnet18", "squeezenet1_1", "mobilenet_v2", "efficientnet_lite0")
    return [NetworkCase(name, 8, (RGB, side, side)) for name in names]


_SMALL: list[Case] = [
    NetworkCase("lenet", 512, (1, 32, 32)),
    NetworkCase("resnet20", 64, (RGB, 32, 32)),
]
_VIT, _GPT = NetworkCase("vit_tiny_patch16_224", 8, (RGB, 224, 224)), LanguageCase(8, 128)
CASES: dict[str, list[Case]] = {
    "tiny": [
        NetworkCase("lenet", 8, (1, 32, 32)),
        LanguageCase(2, 8, width=16, blocks=1, words=20),
    ],
    "quick": [*_SMALL, *_photographs(128), _VIT, _GPT],
    "paper": [*_SMALL, *_photographs(224), _VIT, _GPT],
}
TINY = Yardsticks(side=256, elements=2**20), 3  # and rounds


def test_kinds_of_operations(case: Case, size: str, benchmark: Any, save: Any) -> None:
    """Times every kind; the FLOPs of all kinds are those of the product."""
    yardsticks, rounds = TINY if size == "tiny" else (None, measurement.ROUNDS)
    found = benchmark.pedantic(measurement.measure, args=(case, yardsticks, rounds), rounds=1)
    new = measurement.records(case, found, rounds)
    benchmark.extra_info.update({f"{r.column} {r.metric}": r.value for r in new})
    save(EXHIBIT, new)
    by_kind = sum(v["flops"][0] for name, v in found.items() if name in measurement.KINDS)
    assert by_kind == pytest.approx(found[PRODUCT]["flops"][0])
