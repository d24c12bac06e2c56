"""How the seconds of a spectrum grow along each axis, and whether that is as predicted."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.growth import measurement
from benchmarks.growth.settings import (
    BATCH,
    BATCHES,
    PARAMETERS,
    POOLED,
    PROBES,
    RANKS,
    STEPS,
    GrowthCase,
    Setting,
)
from benchmarks.growth.view import EXHIBIT

_TINY = Setting(width=16, batch=8, steps=2)
_QUICK = Setting()
_PAPER = Setting(width=1536)
CASES = {
    "tiny": [
        GrowthCase(PARAMETERS, (8, 16), _TINY, rounds=2),
        GrowthCase(BATCHES, (1, 2), _TINY, rounds=2),
        GrowthCase(RANKS, (1, 2), Setting(width=16, batch=8, steps=2, batches=2), rounds=2),
    ],
    "quick": [
        GrowthCase(PARAMETERS, (68, 213, 593, 1381, 3125), _QUICK),  # 1e4 to 1e7
        GrowthCase(BATCH, (4, 16, 64, 256, 1024), _QUICK),
        GrowthCase(STEPS, (6, 12, 24, 48, 96), _QUICK),
        GrowthCase(PROBES, (1, 2, 4, 8), _QUICK),
        GrowthCase(BATCHES, (1, 2, 4, 8), Setting(probes=2)),
        GrowthCase(POOLED, (1, 2, 4, 8), _QUICK),
        GrowthCase(RANKS, (1, 2), Setting(batches=4)),
    ],
    "paper": [
        # 1e4 to 9e7, with as few steps as memory asks for
        GrowthCase(PARAMETERS, (68, 282, 962, 3125, 5440, 9448), Setting(steps=10)),
        GrowthCase(BATCH, (2, 8, 32, 128, 512, 2048), _PAPER),
        GrowthCase(STEPS, (6, 12, 24, 48, 96, 192), _PAPER),
        GrowthCase(PROBES, (1, 2, 4, 8), _PAPER),
        GrowthCase(BATCHES, (1, 2, 4, 8), Setting(width=1536, probes=2)),
        GrowthCase(POOLED, (1, 2, 4, 8), _PAPER),
        GrowthCase(RANKS, (1, 2), Setting(width=1536, batches=4)),
    ],
}


@pytest.mark.timeout(0)
def test_growth(case: GrowthCase, allocator: bool, benchmark: Any, save: Any) -> None:
    """Times all points of an axis in turn; publishes seconds and exponents."""
    found = benchmark.pedantic(measurement.measure, args=(case, allocator), rounds=1)
    new = measurement.records(case, found)
    benchmark.extra_info.update({f"{r.column} {r.metric}": r.value for r in new})
    save(EXHIBIT, new)
