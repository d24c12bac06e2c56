"""Records of libraries at equal work, and of why one was not measured."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np

from benchmarks.isolate import Peak
from benchmarks.peers.judgement import Judgement
from benchmarks.peers.libraries import Adapter, EqualWork, Measurement
from benchmarks.problems import configuration, device
from benchmarks.timing import median
from paper_tables.engine import machine
from paper_tables.engine.records import Record


def library_records(
    adapter: Adapter, work: EqualWork, found: Sequence[Peak[Measurement]], judged: Judgement
) -> list[Record]:
    """The records of one library: medians over its processes.

    Args:
        adapter: the library.
        work: what it did.
        found: what each process measured.
        judged: the comparison with the reference.
    """
    quadrature = found[0].result.quadrature
    ratios = [p.result.seconds / p.result.passes / quadrature.products for p in found]
    passes, error = median(ratios)
    memory, added, seconds = np.median([(p.bytes, p.added, p.result.seconds) for p in found], 0)
    others = {"added_memory": added, **dataclasses.asdict(judged)}
    today = datetime.now(timezone.utc).date().isoformat()
    facts = machine.environment(device())
    shared: dict[str, Any] = {
        **_place(adapter, work, facts["device"]), **facts, "fidelity": "substitute",
        "note": f"{adapter.version}, {today}", "seed": work.seed, "dtype": "float32",
        "m": work.steps, "probes": work.probes, "batches": work.batches, "batch_size": work.batch,
        "matvecs": quadrature.products, "seconds": float(seconds), "peak_memory": int(memory),
    }  # fmt: skip
    return [
        Record(metric="passes", value=passes, stderr=error, n=len(ratios), **shared),
        *(Record(metric=metric, value=float(value), **shared) for metric, value in others.items()),
    ]


def not_run(adapter: Adapter, work: EqualWork, reason: str) -> list[Record]:
    """The record that says why a library was not measured."""
    place = _place(adapter, work, device())
    return [Record(**place, metric="passes", value=None, verdict="not_run", reason=reason)]


def _place(adapter: Adapter, work: EqualWork, device_name: str) -> dict[str, Any]:
    config = configuration(dataclasses.asdict(work), device_name)
    return {"table": "peers", "row": str(work), "column": adapter.name, "config": config}


def in_words(error: BaseException) -> str:
    """An error as one line without paths.

    >>> in_words(FileNotFoundError("no file /var/x"))
    'fails with FileNotFoundError: no file ...'
    """
    if isinstance(error, NotImplementedError):  # an adapter says what the library cannot do
        return str(error)
    line = (str(error).strip().splitlines() or [""])[0]
    line = re.sub(r"(?:[A-Za-z]:)?[/\\][^\s'\"]+", "...", line)[:160]
    return f"fails with {type(error).__name__}: {line}"
