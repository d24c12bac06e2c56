"""Section 3.4: seconds of the criteria, compared with their accuracy and an accuracy pass.

`--size paper` takes the paper's sizes and ResNet50, for a GPU. Comments at the quick cases say what
these leave out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import inputs
from benchmarks.hesd_cost import measurement
from benchmarks.hesd_cost.measurement import CostCase
from benchmarks.hesd_cost.view import EXHIBIT, file_name
from benchmarks.problems import device
from lla.files import atomic_write

IMAGES = 3500  # number of images in the paper's accuracy pass of ResNet

CASES = {
    "tiny": [CostCase("lenet", 32, 16, 4, 3, 2, ((1, 1), (2, 1)), examples=64)],
    "quick": [
        # the scatter, from small batches and few steps
        CostCase("lenet", 32, 128, 20, 20, 8, ((1, 1), (5, 1), (2, 2))),
        # the paper's batches and steps, for the time alone
        CostCase("lenet", 32, 2048, 100, 2, 1, ((1, 1),)),
        # the paper's pictures, few at a time and few steps
        *(
            CostCase(network, 224, 2, 5, 2, 2, ((1, 1), (3, 1)), examples=32, stands_for=IMAGES)
            for network in ("resnet18", "resnet50")
        ),
    ],
    "paper": [
        CostCase("lenet", 32, 2048, 100, 20, 8, ((1, 1), (5, 1), (2, 2), (10, 4))),
        CostCase("resnet18", 224, 64, 100, 20, 8, ((1, 1), (5, 1), (1, 2)), examples=IMAGES),
        CostCase("resnet50", 224, 64, 100, 5, 4, ((1, 1), (3, 1), (1, 2)), examples=IMAGES),
        # the time alone, in a few minutes (benchmarks.gpu)
        *(
            CostCase(network, 224, 64, 100, 2, 1, ((1, 1),), examples=IMAGES)
            for network in ("resnet18", "resnet50")
        ),
    ],
}


def test_cost_of_the_criteria(
    case: CostCase, benchmark: Any, results: Path | None, save: Any
) -> None:
    """Times the criteria; publishes records, table and figure, and how linear the time is."""
    given = inputs.make(
        case.network, case.batch_size, case.batches, case.side, case.examples, device()
    )
    found = benchmark.pedantic(measurement.measure, args=(case, given), rounds=1)
    new = measurement.cost_records(case, given, found)
    benchmark.extra_info.update({f"{r.column} {r.metric}": r.value for r in new})
    if results is not None:
        raw = measurement.raw(found).to_csv(index=False)
        atomic_write(results / "benchmarks" / f"{file_name(new[0])}.csv", raw)
    save(EXHIBIT, new)
