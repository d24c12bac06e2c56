"""Seconds to 5 %: this library's target, and the cheapest fixed budgets of others."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.stated_error import measurement
from benchmarks.stated_error.measurement import StatedErrorCase
from benchmarks.stated_error.view import EXHIBIT

CASES = {
    "tiny": [StatedErrorCase("lenet", 8, 32, 2, 0.2, 1, steps=(4, 8))],
    "quick": [
        StatedErrorCase("lenet", 512, 32, 3, 0.025, 1),
        StatedErrorCase("resnet20", 16, 32, 2, 0.03, 1),
    ],
    "paper": [
        StatedErrorCase("lenet", 512, 32, 6, 0.02, 1),
        StatedErrorCase("resnet20", 64, 32, 3, 0.025, 1),
        # a run of another library takes minutes; K_H1 differs little from probe to probe
        StatedErrorCase("squeezenet1_1", 8, 224, 2, 0.025, 1, plain=False, steps=(30, 60)),
    ],
}


@pytest.mark.timeout(0)
def test_seconds_to_a_stated_error(
    case: StatedErrorCase, size: str, peak: Any, benchmark: Any, save: Any
) -> None:
    """This library and others in turn, each in a process of its own."""
    if size != "tiny" and not measurement.libraries_here():
        pytest.skip("no other library is here: tox -e peers installs them")
    given = case.make()
    found = benchmark.pedantic(measurement.measure, args=(case, peak), rounds=1)
    new = measurement.case_records(case, given, found)
    benchmark.extra_info.update({f"{r.column} {r.metric}": r.value for r in new})
    save(EXHIBIT, new)
