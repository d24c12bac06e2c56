"""Records of other libraries at equal work, and the table made from them."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from benchmarks.isolate import Peak
from benchmarks.measure import median
from benchmarks.peers import Adapter, Measurement, Work
from benchmarks.reference import TOLERANCE, TOP, Judgement
from lla import files
from paper_tables.engine import machine, records
from paper_tables.engine.records import Record

TABLE = "peers"
FILE = "peers.jsonl"

HEADERS = ("library", "version", "seconds", "passes a product", "products", "peak MiB",
           "of it added", f"error of the top {TOP}", "error of the moments", "correct")  # fmt: skip

TEXT = f"""# Other libraries at equal work

The same network, batches, Lanczos steps, probes, type and number of threads for each, in one \
run. Each library runs in a process of its own, whose peak memory is its own; *added*: what the \
process did not hold before it began. *Passes a product*: all seconds over the products and over \
the seconds of a forward and backward pass in the same process, so preparations count, but not \
what happens once a process (imports): a run of three steps on two pictures comes first. Networks \
are at initialisation and see noise: costs do not depend on values.

*Correct*: the {TOP} largest nodes of every run are the {TOP} largest eigenvalues, each once, \
within {TOLERANCE:g}, and the moments v'H^k v of the first probe, k = 1 to 4, are right within \
{TOLERANCE:g}; against ARPACK and double backward in float64, without this library. What takes \
other probes than Rademacher's (curvlinops: Gaussian) is held against the moments of its own.
"""


def entries(
    adapter: Adapter,
    work: Work,
    found: Sequence[Peak[Measurement]],
    judged: Judgement,
    allocator_tuned: bool,
) -> list[Record]:
    """The records of one library: medians over its processes.

    Args:
        adapter: the library.
        work: what it did.
        found: what each process measured.
        judged: how far it is from the reference.
        allocator_tuned: whether the processes tuned their allocator.
    """
    quadrature = found[0].result.quadrature
    ratios = [p.result.seconds / p.result.passes / quadrature.products for p in found]
    passes, error = median(ratios)
    values = {
        "passes": passes,
        "added_memory": float(np.median([p.added for p in found])),
        "eigenvalue_error": judged.eigenvalue_error,
        "copies": float(judged.copies),
        "moment_error": judged.moment_error,
    }
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return [
        Record(
            **_place(adapter, work),
            metric=metric,
            value=value,
            stderr=error if metric == "passes" else None,
            n=len(ratios) if metric == "passes" else None,
            fidelity="substitute",
            note=version(adapter),
            seed=work.seed,
            dtype="float32",
            m=work.steps,
            probes=work.probes,
            batches=work.batches,
            batch_size=work.batch,
            allocator_tuned=allocator_tuned,
            seconds=float(np.median([p.result.seconds for p in found])),
            matvecs=quadrature.products,
            peak_memory=int(np.median([p.bytes for p in found])),
            **machine.environment(device),
        )
        for metric, value in values.items()
    ]


def not_run(adapter: Adapter, work: Work, reason: str) -> list[Record]:
    """The record that says why a library was not measured."""
    return [
        Record(
            **_place(adapter, work), metric="passes", value=None, verdict="not_run", reason=reason
        )
    ]


def _place(adapter: Adapter, work: Work) -> dict[str, Any]:
    config = dataclasses.asdict(work)
    return {"table": TABLE, "row": str(work), "column": adapter.name, "config": config}


def version(adapter: Adapter) -> str:
    """The version of what ran."""
    if adapter.checkout and os.environ.get(adapter.checkout):
        return "checkout"
    try:
        return importlib.metadata.version(adapter.distribution)
    except importlib.metadata.PackageNotFoundError:
        return "checkout"


def in_words(error: BaseException) -> str:
    """An error as one line without paths.

    >>> in_words(FileNotFoundError("no file /var/x"))
    'fails with FileNotFoundError: no file ...'
    """
    if isinstance(error, NotImplementedError):  # an adapter's own word on what a library is for
        return str(error)
    line = (str(error).strip().splitlines() or [""])[0]
    line = re.sub(r"(?:[A-Za-z]:)?[/\\][^\s'\"]+", "...", line)[:160]
    return f"fails with {type(error).__name__}: {line}"


def save(new: Sequence[Record], results: Path) -> None:
    """Put the records of one library in the place of its earlier ones, and write the table.

    A reason for not running never takes the place of a measurement.

    Args:
        new: records of one library on one case.
        results: the folder of results.
    """
    folder = results / "benchmarks"

    def merge(old: list[Record]) -> list[Record]:
        place = (new[0].row, new[0].column, new[0].config_hash)
        mine = [r for r in old if (r.row, r.column, r.config_hash) == place]
        if new[0].value is None and any(r.value is not None for r in mine):
            return old
        return [r for r in old if r not in mine] + list(new)

    records.update_records(folder / FILE, merge)
    files.atomic_write(folder / "peers.md", render(records.read_records(folder / FILE)))


def render(found: Sequence[Record]) -> str:
    """The table in Markdown, one part a case.

    Args:
        found: records of all libraries and cases.
    """
    cases: dict[tuple[str, str], dict[str, dict[str, Record]]] = {}
    for record in found:
        case = cases.setdefault((record.row, record.config_hash), {})
        case.setdefault(record.column, {})[record.metric] = record
    parts = [TEXT]
    for (row, _), libraries in cases.items():
        work = next(iter(next(iter(libraries.values())).values())).config
        measured = [r for metrics in libraries.values() for r in metrics.values() if r.threads]
        where = f"{measured[0].device}, {measured[0].threads} threads" if measured else "not run"
        parts.append(
            f"## {row}\n\n{work['steps']} Lanczos steps, {_counted(work['probes'])}; {where}.\n\n"
            + tabulate(
                [_line(name, metrics) for name, metrics in libraries.items()],
                HEADERS,
                tablefmt="github",
                disable_numparse=True,
            )
            + "\n"
        )
        parts += [f"{text}\n" for text in [_lead(libraries)] if text]
    return "\n".join(parts)


def _counted(probes: int) -> str:
    return f"{probes} probe{'s' * (probes > 1)}"


def _lead(libraries: dict[str, dict[str, Record]]) -> str:
    """How this library stands against the fastest other that is correct."""
    right = {
        name: (metrics["passes"].value, metrics["passes"].seconds)
        for name, metrics in libraries.items()
        if metrics["passes"].value is not None and _judged(metrics).correct
    }
    own = right.pop("lla", None)
    if own is None:
        return ""
    if not right:
        return "No other library that ran is correct here."
    name, (passes, seconds) = min(right.items(), key=lambda item: item[1][0])
    return (
        f"The fastest other that is correct, {name}, takes {seconds:.3g} s where lla takes "
        f"{own[1]:.3g} s; in passes, {passes / own[0]:.2f} times as many."
    )


def _judged(metrics: dict[str, Record]) -> Judgement:
    error, copies, moments = (
        metrics[name].value or 0.0 for name in ("eigenvalue_error", "copies", "moment_error")
    )
    return Judgement(error, int(copies), moments)


def _line(name: str, metrics: dict[str, Record]) -> list[str]:
    passes = metrics["passes"]
    if passes.value is None:
        return [name, "", "not run", *[""] * (len(HEADERS) - 4), str(passes.reason)]
    judged = _judged(metrics)
    added = metrics["added_memory"].value or 0.0
    assert passes.peak_memory is not None
    spread = f" ± {passes.stderr:.2f}" if passes.stderr is not None else ""
    return [
        name,
        str(passes.note),
        f"{passes.seconds:.3g}",
        f"{passes.value:.2f}{spread}",
        str(passes.matvecs),
        f"{passes.peak_memory / 2**20:.0f}",
        f"{added / 2**20:.0f}",
        f"{judged.eigenvalue_error:.1e}",
        f"{judged.moment_error:.1e}",
        "yes" if judged.correct else f"no: {judged.reason}",
    ]
