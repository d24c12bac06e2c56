"""Section 3.4 of arXiv:2412.10146: what a criterion costs, and how sure it is for that.

A budget is a number of probes (the paper's n_hes) and of batches. Its time is linear in both, and
its standard error follows from how much probes and batches scatter. So one run with all probes and
batches gives the standard error of every smaller budget, and few have to be timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import lla
from benchmarks.inputs import Input
from benchmarks.measure import seconds
from lla import records
from lla.hessian.accuracy.scatter import Scatter, probe_and_batch_ranges
from lla.hessian.ratios import spectrum_criteria
from lla.records import Record

TABLE = "cost"
PROBES = (1, 2, 5, 10, 20)  # n_hes
BATCHES = (1, 2, 4, 8)

Budget = tuple[int, int]  # probes, batches


@dataclass(frozen=True)
class Case:
    """What is measured of one network."""

    network: str
    side: int  # of its input, pixels
    batch_size: int
    steps: int  # Lanczos steps a probe
    probes: int  # of the run that shows the scatter
    batches: int
    timed: tuple[Budget, ...]  # timed before that run; the first two of all give the prediction
    examples: int | None = None  # of the accuracy pass; None: the whole data set
    stands_for: int | None = None  # examples that the pass's time is scaled to

    def __str__(self) -> str:
        return f"{self.network} {self.batch_size}"


@dataclass(frozen=True)
class Linear:
    """Seconds of a budget: batches x (set-up + probes x run)."""

    setup: float  # of one batch: the graph, the choice of a route
    run: float  # of one probe on one batch

    @classmethod
    def of(cls, timed: Mapping[Budget, float]) -> Linear:
        """The prediction from two budgets with different numbers of probes."""
        (few, one), (many, other) = timed
        first, second = timed[few, one] / one, timed[many, other] / other
        run = (second - first) / (many - few)
        return cls(max(0.0, first - few * run), run)

    def seconds(self, probes: int, batches: int) -> float:
        """What is predicted for a budget."""
        return batches * (self.setup + probes * self.run)


@dataclass(frozen=True)
class Measured:
    """What was measured of one case."""

    kh05: np.ndarray  # [batches, probes] of the run that shows the scatter
    kh1: np.ndarray
    re: np.ndarray
    timed: dict[Budget, float]  # seconds of whole criteria; the run itself is the last
    loader: float  # seconds of an accuracy pass with an ordinary DataLoader
    resident: float  # of one over data that lie on the device
    matvecs: int  # of the run
    route: str

    @property
    def prediction(self) -> Linear:
        """From the first two budgets that were timed."""
        first, second = list(self.timed)[:2]
        return Linear.of({budget: self.timed[budget] for budget in (first, second)})

    @property
    def linearity(self) -> dict[Budget, float]:
        """Measured seconds over predicted ones, of the budgets that the prediction is not from."""
        linear = self.prediction
        return {b: t / linear.seconds(*b) for b, t in list(self.timed.items())[2:]}


def measure(case: Case, given: Input) -> Measured:
    """Measure one case.

    Args:
        case: what to measure.
        given: network and data.
    """
    timed: dict[Budget, float] = {}
    found: list[lla.Criteria] = []

    def criteria(probes: int, batches: int) -> None:
        found.append(
            lla.criteria(
                given.model, given.pairs[:batches], probes=probes, steps=case.steps, seed=0
            )
        )

    lla.criteria(given.model, given.pairs[:1], probes=1, steps=2)  # what happens once a process
    for probes, batches in (*case.timed, (case.probes, len(given.pairs))):
        timed[probes, batches] = seconds(lambda p=probes, b=batches: criteria(p, b))  # type: ignore[misc]
    accuracy(given.model, given.pairs[:1])
    loader = seconds(lambda: accuracy(given.model, given.loader()))
    resident = seconds(lambda: accuracy(given.model, given.resident()))
    parts = [spectrum_criteria(spectrum) for spectrum in found[-1].spectra]
    scale = (case.stands_for or given.count) / given.count
    return Measured(
        kh05=np.stack([part.kh05 for part in parts]),
        kh1=np.stack([part.kh1 for part in parts]),
        re=np.stack([part.re for part in parts]),
        timed=timed,
        loader=scale * loader,
        resident=scale * resident,
        matvecs=found[-1].matvecs,
        route=found[-1].route,
    )


@torch.no_grad()
def accuracy(model: nn.Module, pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Share of right answers over all batches, as one would write it down."""
    device = next(model.parameters()).device
    right = total = 0
    for x, y in pairs:
        right += (model(x.to(device)).argmax(1) == y.to(device)).sum()
        total += len(y)
    return float(right) / total


# --- records


def column(probes: int, batches: int) -> str:
    """How a budget is called.

    >>> column(10, 4)
    '10 x 4'
    """
    return f"{probes} x {batches}"


def entries(case: Case, given: Input, found: Measured, allocator_tuned: bool) -> list[Record]:
    """The records of one case.

    `10 x 4` stands for 10 probes on each of 4 batches: its `seconds` (with a note whether they
    were measured) and `kh05` with the standard error that it buys. `accuracy pass` has the seconds
    of both forms of it; `scatter` what the standard errors come from, `linearity` the measured
    seconds over the predicted ones.

    Args:
        case: what was measured.
        given: on which network and data.
        found: what came of it.
        allocator_tuned: whether the allocator was tuned.
    """
    settings = {k: v for k, v in asdict(case).items() if k not in ("timed", "network", "steps")}
    settings |= {"batches": len(given.pairs), "batch_size": len(given.pairs[0][1])}
    config: dict[str, Any] = {
        "model": case.network, "mode": "eval", "seed": 0, "dtype": "float32", "m": case.steps,
        "data_sha256": given.data.sha256, "weights_sha256": given.weights.sha256, **settings,
    }  # fmt: skip
    device = str(given.pairs[0][0].device.type)
    # seconds are of one machine: those of another kind of device stand beside these
    timing = records.environment(device)
    config["device"] = timing["device"]

    def record(place: str, metric: str, value: float, **facts: Any) -> Record:
        return Record(
            table=TABLE,
            row=case.network,
            column=place,
            metric=metric,
            value=value,
            fidelity=given.fidelity,
            seed=0,
            dtype="float32",
            # the steps stand in the config alone: with m, claims on spectra would look in here
            batch_size=settings["batch_size"],
            data=given.data,
            weights=given.weights,
            route=found.route,
            config=config,
            allocator_tuned=allocator_tuned,
            **{"note": given.note, **facts},
            **timing,
        )

    result = []
    linear = found.prediction
    known = Scatter.of(found.kh05) if min(found.kh05.shape) > 1 else None
    for probes, batches in product(PROBES, BATCHES):
        facts = {"probes": probes, "batches": batches}
        measured = found.timed.get((probes, batches))
        place = column(probes, batches)
        result.append(
            record(
                place,
                "seconds",
                linear.seconds(probes, batches) if measured is None else measured,
                **facts,
                note="predicted" if measured is None else "measured",
            )
        )
        if known is not None:
            result.append(
                record(
                    place,
                    "kh05",
                    known.mean,
                    stderr=known.stderr(probes, batches),
                    n=known.samples[1],
                    stderr_kind="batches",
                    **facts,
                )
            )
    result += [
        record("accuracy pass", "seconds_loader", found.loader, n=case.stands_for or given.count),
        record("accuracy pass", "seconds_resident", found.resident,
               n=case.stands_for or given.count),
    ]  # fmt: skip
    for (probes, batches), ratio in found.linearity.items():
        result.append(record("linearity", f"ratio {column(probes, batches)}", ratio))
    if known is not None:
        result += _scatter(found.kh05, known, record)
    return result


def _scatter(values: np.ndarray, known: Scatter, record: Callable[..., Record]) -> list[Record]:
    """Where the standard errors come from, and how far single runs and batches are apart."""
    probes, batches = known.samples
    ranges, of_batches = probe_and_batch_ranges(values)
    facts = {"probes": probes, "batches": batches}
    return [
        record("scatter", "probes", known.probes, n=batches * (probes - 1), **facts),
        record("scatter", "batches", known.batches, n=batches - 1, **facts),
        record(
            "scatter", "range_probes", ranges.value, stderr=ranges.stderr, n=ranges.n,
            stderr_kind="batches", **facts,
        ),
        record("scatter", "range_batches", of_batches, n=batches, **facts),
    ]  # fmt: skip
