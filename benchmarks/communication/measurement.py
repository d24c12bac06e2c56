"""Bytes that processes on this machine send in products and Lanczos steps, counted by the system.

The processes are joined by gloo over the loopback device, whose counter is read before and after.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import torch
import torch.distributed as distributed
import torch.multiprocessing

import lla
from benchmarks.communication.prediction import gathered, reduced
from benchmarks.problems import NetworkCase, network
from lla.probes import rademacher
from paper_tables.engine import machine
from paper_tables.engine.records import Record

TABLE = "communication"
STEPS = 12  # Lanczos vectors
PRODUCTS = 12
NOTE = "over gloo on one machine, counted at its loopback device, headers included"


def measure(case: NetworkCase, ranks: int) -> dict[str, float]:
    """What each of several processes sends.

    Args:
        case: the network, with a batch for each process.
        ranks: how many.

    Returns:
        Bytes and seconds of a `product`, and of a Lanczos `step`; `predicted_product` and
        `predicted_step`, bytes; `parameters`.
    """
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_rank, (case, ranks, Path(folder)), ranks)
        found: dict[str, float] = torch.load(Path(folder) / "found.pt")
    P = int(found["parameters"])
    found["predicted_product"] = reduced(P, ranks)
    found["predicted_step"] = reduced(P, ranks) + gathered(P, ranks)
    return found


def _rank(rank: int, case: NetworkCase, ranks: int, folder: Path) -> None:
    torch.set_num_threads(1)
    place = f"file://{folder / 'meeting'}"
    distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=ranks)
    # the CPU, for that is what gloo's processes share
    model, pairs = network(case.name, case.shape, case.batch, batches=ranks)
    H = lla.HessianOperator(lla.Problem(model.cpu(), [(x.cpu(), y.cpu()) for x, y in pairs]))
    rows = rademacher(H.shape[0], H.theta, 0)[None]
    tests: dict[str, Callable[[int], object]] = {
        "product": lambda count: [H.rows(rows) for _ in range(count)],
        "step": lambda count: lla.spectral_density(H, probes=1, steps=count),
    }
    found: dict[str, float] = {"parameters": H.shape[0]}
    for name, function in tests.items():
        count = PRODUCTS if name == "product" else STEPS
        function(2)  # warm up
        spent = [_spent(partial(function, k), ranks) for k in (count, 2 * count)]
        # the difference, so that what a run sends at its start and end does not count
        found[f"bytes_{name}"] = (spent[1][0] - spent[0][0]) / count
        found[f"seconds_{name}"] = (spent[1][1] - spent[0][1]) / count
    if rank == 0:
        torch.save(found, folder / "found.pt")
    distributed.barrier()
    distributed.destroy_process_group()


def _spent(function: Callable[[], object], ranks: int) -> tuple[float, float]:
    """Bytes that each rank sent, on average, and seconds."""
    distributed.barrier()
    before, begin = psutil.net_io_counters(pernic=True)["lo"].bytes_sent, time.perf_counter()
    function()
    seconds = time.perf_counter() - begin
    distributed.barrier()
    return (psutil.net_io_counters(pernic=True)["lo"].bytes_sent - before) / ranks, seconds


def records(case: NetworkCase, ranks: int, found: dict[str, float]) -> list[Record]:
    """The records of one network and number of processes."""
    timing = machine.environment("cpu") | {"threads": 1}
    settings = {"network": case.name, "batch": case.batch, "shape": list(case.shape)}
    shared = partial(
        Record, table=TABLE, row=str(case), column=f"{ranks} processes", fidelity="substitute",
        note=NOTE, seed=0, dtype="float32", batch_size=case.batch,
        config=settings | {"ranks": ranks}, **timing,
    )  # fmt: skip
    return [shared(metric=metric, value=float(value)) for metric, value in found.items()]
