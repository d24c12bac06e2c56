"""What exact flatness costs, beside random products that come to an error of one percent.

All times of a cell are taken in one run. The products that Hutchinson's estimate of the trace takes
to a standard error of one percent follow from the scatter of a few of them: their number would take
too long to make, and it grows with the square of the error whatever the number.
"""

from __future__ import annotations

import math
import re
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

import lla
from lla.layers.flatness import flatness
from lla.probes import rademacher
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.records import Record
from paper_tables.exhibits.flatness import networks
from paper_tables.exhibits.flatness.networks import Case
from paper_tables.inputs import known

TABLE = "flatness_cost"
RTOL = 0.01  # standard error of the trace, relative
REPEATS = 3  # of the exact method; the median counts
PROBES = 100
CLOSED, BLOCKS = "closed form, last layer", "Jacobian blocks, all layers"
METRICS = (
    "seconds_exact", "seconds_product", "products", "products_each", "speedup", "agreement",
)  # fmt: skip
IMAGES = 16  # of the small networks, so that the cell stays short
CASES = (("resnet20", CLOSED), ("squeezenet", CLOSED), ("resnet20", BLOCKS))


def cells(settings: Settings) -> list[Cell]:
    """One cell for each network and exact method."""
    return [_cell(settings, networks.case(row), column) for row, column in CASES]


def _cell(settings: Settings, case: Case, column: str) -> Cell:
    net = case.network
    facts = networks.config_of(settings, net)
    facts["images"] = min(IMAGES, facts["images"])
    layers = [case.layer] if column == CLOSED else list(known.layers_of(net))
    return Cell(
        table=TABLE,
        row=case.row,
        column=column,
        name=f"{case.row}-{column.replace(',', '').replace(' ', '-').lower()}",
        metrics=METRICS,
        config={
            **facts, "layers": layers, "rtol": RTOL, "probes": PROBES, "repeats": REPEATS,
            "seed": known.SEED, "dtype": "float32", "mode": "eval",
        },
        fidelity=known.fidelity(settings, net),
        inputs=f"{net.name}, {facts['weights']}, on {facts['images']} x {facts['side']} px of "
        f"{facts['data']}, {PROBES} products",
        compute=_compute,
        stage=1,
        seconds=15,
        memory=2 * 2**30,
    )  # fmt: skip


def _compute(cell: Cell, settings: Settings) -> list[Record]:
    net, layers = networks.case(cell.row).network, cell.config["layers"]
    model, weights = known.loaded(settings, net)
    batches = networks.batch(settings, net)
    x, y = batches.pairs[0]
    batch = (x[: cell.config["images"]], y[: cell.config["images"]])
    method = "closed" if cell.column == CLOSED else "jacobian"

    def exact() -> list[float]:
        found = flatness(model, batch, layers, method=method)  # type: ignore[arg-type]
        return [found[name].trace.value for name in layers]

    seconds, traces = _timed(exact, REPEATS)
    problem = lla.Problem(model, batch)
    H = lla.HessianOperator(problem, [f"re:^{re.escape(name)}\\.weight$" for name in layers])
    samples, each = _sampled(H, layers)
    total, together = samples.sum(1), sum(traces)
    products = float(_products(total, together))
    of_each = _products(samples, torch.tensor(traces, dtype=torch.float64))
    worst = int(of_each.argmax())
    apart = float(total.mean()) - together
    speedup = products * each / seconds
    # the scatter of n samples is known to 1 / sqrt(2 (n - 1)), so its square to twice that
    error = 2 / math.sqrt(2 * (len(samples) - 1))
    facts = batches.facts(weights)
    return [
        cell.record("seconds_exact", seconds, n=REPEATS, note="median of the runs", **facts),
        cell.record("seconds_product", each, n=len(samples), note=f"route {H.route}", **facts),
        cell.record(
            "products", products, error * products, n=len(samples), stderr_kind="probes",
            note=f"to {RTOL:.0%} of the trace of all layers together, from the scatter of "
            f"{len(samples)} products", matvecs=len(samples), **facts,
        ),
        cell.record(
            "products_each", float(of_each[worst]), error * float(of_each[worst]),
            n=len(samples), stderr_kind="probes",
            note=f"to {RTOL:.0%} of the trace of each layer; most for {layers[worst]}", **facts,
        ),
        cell.record(
            "speedup", speedup, error * speedup, n=len(samples), stderr_kind="probes", **facts
        ),
        cell.record(
            "agreement", abs(apart) / (float(total.std()) / math.sqrt(len(samples))),
            note="between exact and sampled trace, in standard errors", **facts,
        ),
    ]  # fmt: skip


def _timed(call: Callable[[], list[float]], repeats: int) -> tuple[float, list[float]]:
    """The median time of a call in seconds, and what it gave; the first call is left out."""
    found = call()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times), found


def _sampled(H: lla.HessianOperator, layers: list[str]) -> tuple[Tensor, float]:
    """Hutchinson's samples of the trace of each layer [probes, layers], and seconds a product.

    One product with all weights gives a sample for each layer.
    """
    sizes = [torch.Size(shape).numel() for shape in H.space.shapes]
    assert len(sizes) == len(layers)
    _ = H @ rademacher(H.shape[0], H.theta, known.SEED, 0)  # chooses a route
    samples = []
    begin = time.perf_counter()
    for i in range(PROBES):
        v = rademacher(H.shape[0], H.theta, known.SEED, 1, i)
        parts = (v.double() * (H @ v).double()).split(sizes)
        samples.append(torch.stack([part.sum() for part in parts]).cpu())
    each = (time.perf_counter() - begin) / PROBES
    return torch.stack(samples), each


def _products(samples: Tensor, trace: float | Tensor) -> Tensor:
    """Products until the mean of samples [probes, ...] has the wanted error."""
    return (samples.std(0) / trace / RTOL).square()
