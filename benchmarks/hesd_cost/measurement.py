"""Section 3.4 of arXiv:2412.10146: what a criterion costs, and how accurate it is.

A budget is a number of probes (the paper's n_hes) and of batches. Its time is linear in both, and
its standard error follows from the scatter of probes and batches. So one run with all probes and
batches gives the standard error of every smaller budget, and only a few budgets have to be timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

import lla
from benchmarks.inputs import Input, accuracy
from benchmarks.timing import timed
from lla.hessian.accuracy import Scatter, probe_and_batch_ranges
from lla.hessian.ratios import spectrum_criteria
from paper_tables.engine import machine
from paper_tables.engine.records import Record

TABLE = "cost"
PROBES = (1, 2, 5, 10, 20)  # n_hes
BATCHES = (1, 2, 4, 8)

Budget = tuple[int, int]  # probes, batches


@dataclass(frozen=True)
class CostCase:
    """What is measured on one network."""

    network: str
    side: int  # of its input, pixels
    batch_size: int
    steps: int  # Lanczos steps a probe
    probes: int  # of the run that shows the scatter
    batches: int
    timed: tuple[Budget, ...]  # timed before that run; the first two give the prediction
    examples: int | None = None  # of the accuracy pass; None: the whole data set
    stands_for: int | None = None  # number of examples to which the time of the pass is scaled

    def __str__(self) -> str:
        return f"{self.network} {self.batches} x {self.batch_size}"


@dataclass(frozen=True)
class Linear:
    """Seconds of a budget: batches x (set-up + probes x run)."""

    setup: float  # of one batch: the graph, the choice of a route
    run: float  # of one probe on one batch

    @classmethod
    def of(cls, timed: Mapping[Budget, float]) -> Linear:
        """The prediction from the first two budgets, which have different numbers of probes."""
        (few, one), (many, other) = list(timed)[:2]
        first, second = timed[few, one] / one, timed[many, other] / other
        run = (second - first) / (many - few)
        return cls(max(0.0, first - few * run), run)

    def seconds(self, probes: int, batches: int) -> float:
        """The predicted seconds of a budget."""
        return batches * (self.setup + probes * self.run)


@dataclass(frozen=True)
class CriteriaCost:
    """The measurements of one case."""

    kh05: np.ndarray  # [batches, probes] of the run that shows the scatter
    kh1: np.ndarray
    re: np.ndarray
    timed: dict[Budget, float]  # seconds of whole criteria; the run itself is the last
    loader: float  # seconds of an accuracy pass with an ordinary DataLoader
    resident: float  # seconds of an accuracy pass over data on the device
    route: str

    @property
    def prediction(self) -> Linear:
        """The prediction from the first two budgets that were timed."""
        return Linear.of(self.timed)

    @property
    def linearity(self) -> dict[Budget, float]:
        """Measured / predicted seconds of the budgets that were not used for the prediction."""
        linear = self.prediction
        return {b: t / linear.seconds(*b) for b, t in list(self.timed.items())[2:]}


def measure(case: CostCase, given: Input) -> CriteriaCost:
    """Measure one case.

    Args:
        case: what to measure.
        given: network and data.
    """
    durations: dict[Budget, float] = {}
    lla.criteria(given.model, given.pairs[:1], probes=1, steps=2)  # warm up the process
    for probes, batches in (*case.timed, (case.probes, len(given.pairs))):
        run = partial(lla.criteria, given.model, given.pairs[:batches], probes=probes)
        found, durations[probes, batches] = timed(partial(run, steps=case.steps, seed=0))
    accuracy(given.model, given.pairs[:1])
    _, loader = timed(lambda: accuracy(given.model, given.loader()))
    _, resident = timed(lambda: accuracy(given.model, given.resident()))
    parts = [spectrum_criteria(spectrum) for spectrum in found.spectra]
    scale = (case.stands_for or given.count) / given.count
    kh05, kh1, re = (
        np.stack([getattr(part, name) for part in parts]) for name in ("kh05", "kh1", "re")
    )
    return CriteriaCost(kh05, kh1, re, durations, scale * loader, scale * resident, found.route)


# --- records


def budget_name(probes: int, batches: int) -> str:
    """The name of a budget.

    >>> budget_name(10, 4)
    '10 x 4'
    """
    return f"{probes} x {batches}"


def cost_records(case: CostCase, given: Input, found: CriteriaCost) -> list[Record]:
    """The records of one case.

    `10 x 4` stands for 10 probes on each of 4 batches. It has `seconds` (a note says whether they
    were measured) and `kh05` with its standard error. `accuracy pass` has the seconds of both kinds
    of pass. `scatter` has the source of the standard errors, and `linearity` the measured /
    predicted seconds.

    Args:
        case: what was measured.
        given: on which network and data.
        found: the measurements.
    """
    return list(_records(found, _record(case, given, found.route), case.stands_for or given.count))


def _records(found: CriteriaCost, record: Callable[..., Record], count: int) -> Iterator[Record]:
    known = Scatter.of(found.kh05) if min(found.kh05.shape) > 1 else None
    of_batches = {"n": known.samples[1], "stderr_kind": "batches"} if known else {}
    for budget in product(PROBES, BATCHES):
        probes, batches = budget
        here = partial(record, column=budget_name(*budget), probes=probes, batches=batches)
        if budget in found.timed:
            yield here(metric="seconds", value=found.timed[budget], note="measured")
        else:
            yield here(metric="seconds", value=found.prediction.seconds(*budget), note="predicted")
        if known:
            error = known.stderr(*budget)
            yield here(metric="kh05", value=known.mean, stderr=error, **of_batches)
    passed = partial(record, column="accuracy pass", n=count)
    yield passed(metric="seconds_loader", value=found.loader)
    yield passed(metric="seconds_resident", value=found.resident)
    for budget, ratio in found.linearity.items():
        yield record(column="linearity", metric=f"ratio {budget_name(*budget)}", value=ratio)
    if known:
        yield from _scatter(found.kh05, known, record)


def _record(case: CostCase, given: Input, route: str) -> Callable[..., Record]:
    """A record with the fields that all records of a case share."""
    settings = {k: v for k, v in asdict(case).items() if k not in ("timed", "network", "steps")}
    settings |= {"batches": len(given.pairs), "batch_size": len(given.pairs[0][1])}
    timing = machine.environment(str(given.pairs[0][0].device.type))
    config: dict[str, Any] = {
        "model": case.network, "mode": "eval", "seed": 0, "dtype": "float32", "m": case.steps,
        "data_sha256": given.data.sha256, "weights_sha256": given.weights.sha256, **settings,
        # seconds depend on the machine: records of another kind of device are kept besides these
        "device": timing["device"],
    }  # fmt: skip
    return partial(
        Record, table=TABLE, row=case.network, fidelity=given.fidelity, seed=0, dtype="float32",
        # the steps are in the config only: with m set, claims on spectra would take these records
        batch_size=settings["batch_size"], data=given.data, weights=given.weights, route=route,
        config=config, note=given.note, **timing,
    )  # fmt: skip


def _scatter(values: np.ndarray, known: Scatter, record: Callable[..., Record]) -> Iterator[Record]:
    """The source of the standard errors, and the ranges of single runs and single batches."""
    probes, batches = known.samples
    ranges, of_batches = probe_and_batch_ranges(values)
    scatter = partial(record, column="scatter", probes=probes, batches=batches)
    yield scatter(metric="probes", value=known.probes, n=batches * (probes - 1))
    yield scatter(metric="batches", value=known.batches, n=batches - 1)
    of_ranges = {"stderr": ranges.stderr, "n": ranges.n, "stderr_kind": "batches"}
    yield scatter(metric="range_probes", value=ranges.value, **of_ranges)
    yield scatter(metric="range_batches", value=of_batches, n=batches)


def raw(found: CriteriaCost) -> pd.DataFrame:
    """The criteria of every probe on every batch, one line each."""
    values = [*np.indices(found.kh05.shape), found.re, found.kh1, found.kh05]
    columns = zip(("batch", "probe", "re", "kh1", "kh05"), values, strict=True)
    return pd.DataFrame({name: array.ravel() for name, array in columns})
