"""Section 3.4: seconds of the criteria against what they tell, and against an accuracy pass.

`--size paper` takes the paper's sizes and ResNet50, for a GPU; what the quick size leaves out of
them is said beside its cases.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from benchmarks import hesd_cost, hesd_cost_table, inputs
from benchmarks.hesd_cost import Case

IMAGES = 3500  # over which the paper takes the accuracy of ResNet

CASES = {
    "tiny": [Case("lenet", 32, 16, 4, 3, 2, ((1, 1), (2, 1)), examples=64)],
    "quick": [
        # the scatter, from small batches and few steps
        Case("lenet", 32, 128, 20, 20, 8, ((1, 1), (5, 1), (2, 2))),
        # the paper's batches and steps, for the time alone
        Case("lenet", 32, 2048, 100, 2, 1, ((1, 1),)),
        # the paper's pictures, few at a time and few steps
        *(
            Case(network, 224, 2, 5, 2, 2, ((1, 1), (3, 1)), examples=32, stands_for=IMAGES)
            for network in ("resnet18", "resnet50")
        ),
    ],
    "paper": [
        Case("lenet", 32, 2048, 100, 20, 8, ((1, 1), (5, 1), (2, 2), (10, 4))),
        Case("resnet18", 224, 64, 100, 20, 8, ((1, 1), (5, 1), (1, 2)), examples=IMAGES),
        Case("resnet50", 224, 64, 100, 5, 4, ((1, 1), (3, 1), (1, 2)), examples=IMAGES),
    ],
}
ROOM = 0.25  # by which a budget may miss its prediction


def test_cost_of_the_criteria(
    case: Case, size: str, benchmark: Any, allocator: bool, results: Path | None
) -> None:
    """Time is linear in probes and batches; records, table and figure of what that buys."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    given = inputs.make(
        case.network, case.batch_size, case.batches, case.side, case.examples, device
    )
    found = benchmark.pedantic(hesd_cost.measure, args=(case, given), rounds=1)
    new = hesd_cost.entries(case, given, found, allocator)
    benchmark.extra_info.update({f"{r.column} {r.metric}": r.value for r in new})
    if results is not None:
        hesd_cost_table.save(new, case, found, results)
    if size != "tiny":
        assert all(abs(ratio - 1) <= ROOM for ratio in found.linearity.values()), found.linearity
