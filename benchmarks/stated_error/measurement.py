"""Seconds to a stated error of r_e and K_H1, by `lla.criteria` and by fixed budgets of others.

Other libraries take a number of probes and of steps. What these lead to is not known before; so
the cheapest budget that is good enough, which is looked for here, flatters them: a user would not
know it. What a short run gives follows from a longer one, see `quadratures.shorter`, and its time
from when each product began. So repeated runs of one probe give every budget.
"""

from __future__ import annotations

import functools
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

import lla
from benchmarks import inputs
from benchmarks.hesd_cost.measurement import Linear
from benchmarks.inputs import Input
from benchmarks.isolate import Peak
from benchmarks.peers.libraries import ADAPTERS, Adapter, EqualWork
from benchmarks.peers.records import in_words
from benchmarks.problems import Pairs
from benchmarks.stated_error import errors, quadratures
from benchmarks.stated_error.errors import Errors, Exact
from benchmarks.stated_error.quadratures import Rule
from benchmarks.timing import median, timed
from lla.hessian.ratios import probe_ratios
from paper_tables.engine import machine
from paper_tables.engine.records import Record

TABLE = "stated_error"
TARGET = 0.05  # of r_e and K_H1, relative
BATCHES = 4
STEPS = (30, 60, 100)  # of the fixed budgets; the last are those of `lla.criteria`, too
RACE = 8  # products by which the fastest libraries are found
REFERENCE_SEED = 1_000_000  # no repetition has it
EPS = float(np.finfo(np.float32).eps)  # as for spectra of this library, see `spectrum_criteria`
CRITERIA = ("re", "kh1")

PLAIN = Adapter("plain PyTorch", "torch", quadratures.plain, "torch")
OTHERS = {a.name: a for a in (PLAIN, *ADAPTERS) if a.name != "lla"}

Isolated = Callable[..., Peak[Any]]  # calls a function with arguments, see `isolate.isolated`


@dataclass(frozen=True)
class StatedErrorCase:
    """A network, and how often it is measured."""

    network: str  # see `inputs.make`
    batch_size: int
    side: int  # of its inputs, pixels
    repetitions: int  # of this library, and of the others on each batch
    reference: float  # standard error of the reference, relative
    libraries: int  # of others, the fastest, whose errors are measured
    plain: bool = True  # whether those of plain PyTorch are, too
    steps: tuple[int, ...] = STEPS  # of the budgets of others; the last of their runs

    def __str__(self) -> str:
        side = "" if self.side == inputs.SIDE else f" at {self.side} px"
        return f"{self.network} {self.batch_size}{side}"

    def make(self) -> Input:
        """The network with its batches, on the CPU."""
        return inputs.make(self.network, self.batch_size, BATCHES, self.side, None, "cpu")


@dataclass(frozen=True)
class Ours:
    """A measurement with a target by this library."""

    criteria: dict[str, float]
    stated: dict[str, float]  # standard errors that it states
    products: int
    seconds: float  # of the whole call
    met: bool


@dataclass(frozen=True)
class Run:
    """One probe on one batch by another library."""

    rule: Rule
    setup: float  # seconds before the first product
    ended: np.ndarray  # [steps] seconds from then until each step was over


@dataclass(frozen=True)
class Found:
    """What came of a case."""

    exact: Ours
    ours: list[Ours]
    race: dict[str, float]  # seconds a product of each library that is here
    runs: dict[str, list[list[Run]]]  # by library: for each repetition one run a batch
    not_run: dict[str, str] = field(default_factory=dict)  # the reason, by library


def measure(case: StatedErrorCase, isolated: Isolated) -> Found:
    """Measure a case: the reference, who is fastest, then this library and others in turn.

    Args:
        case: what to measure.
        isolated: calls a function in a process of its own.
    """
    exact = isolated(to_target, case, REFERENCE_SEED, case.reference).result
    race, not_run = {}, {}
    for name, adapter in OTHERS.items():
        if failure := adapter.missing():
            not_run[name] = failure
            continue
        try:
            ((run,),) = [isolated(one_probe_runs, name, case, RACE, 1, 0).result]
            race[name] = (run.ended[-1] - run.ended[0]) / (RACE - 1)
        except Exception as error:
            not_run[name] = in_words(error)
    ours: list[Ours] = []
    names = followed(race, case.libraries, case.plain)
    runs: dict[str, list[list[Run]]] = {name: [] for name in names}
    for repetition in range(case.repetitions):
        ours.append(isolated(to_target, case, repetition, TARGET).result)
        for name, mine in runs.items():
            work = name, case, case.steps[-1], BATCHES, repetition
            mine.append(isolated(one_probe_runs, *work).result)
    return Found(exact, ours, race, runs, not_run)


def libraries_here() -> list[str]:
    """The other libraries that can run here, without plain PyTorch."""
    return [name for name, a in OTHERS.items() if a is not PLAIN and a.missing() is None]


def followed(race: Mapping[str, float], count: int, plain: bool) -> list[str]:
    """Plain PyTorch if it is wanted, and the fastest libraries.

    >>> followed({"plain PyTorch": 1.0, "a": 3.0, "b": 2.0}, 1, True)
    ['plain PyTorch', 'b']
    """
    others = sorted((name for name in race if name != PLAIN.name), key=race.__getitem__)
    return [PLAIN.name] * plain + others[:count]


@functools.lru_cache(maxsize=1)
def _given(case: StatedErrorCase) -> Input:
    return case.make()


def _small(pairs: Pairs) -> Pairs:
    """Two examples, to warm up: torch imports its compiler for forward mode once per process."""
    return [(pairs[0][0][:2], pairs[0][1][:2])]


def to_target(case: StatedErrorCase, seed: int, stderr: float) -> Ours:
    """The criteria of a case to a standard error, as a user calls them, timed whole.

    Args:
        case: of which network.
        seed: of the probes.
        stderr: to reach over the probes, relative.
    """
    given = _given(case)
    lla.criteria(given.model, _small(given.pairs), probes=1, steps=2)
    target = lla.Target(stderr, over="probes")
    with warnings.catch_warnings():  # a missed target is part of the result
        warnings.simplefilter("ignore", UserWarning)
        found, seconds = timed(
            lambda: lla.criteria(
                given.model, given.pairs, probes=1000, steps=STEPS[-1], seed=seed,
                target_stderr=target,
            )
        )  # fmt: skip
    criteria = {name: getattr(found, name) for name in CRITERIA}
    return Ours(
        {name: estimate.value for name, estimate in criteria.items()},
        {name: estimate.stderr or 0.0 for name, estimate in criteria.items()},
        found.matvecs,
        seconds,
        bool(found.converged),
    )


def one_probe_runs(
    name: str, case: StatedErrorCase, steps: int, batches: int, repetition: int
) -> list[Run]:
    """Runs of another library with one probe, one on each batch.

    Args:
        name: of the library.
        case: of which network.
        steps: Lanczos steps of a run.
        batches: the number of batches, from the first on.
        repetition: each one has probes of its own.
    """
    adapter, given = OTHERS[name], _given(case)
    sys.path[:0] = map(str, adapter.folders)  # a checkout has priority over an installed package

    def run(pairs: Pairs, steps: int, seed: int) -> Run:
        shape, size = tuple(pairs[0][0].shape[1:]), len(pairs[0][1])
        work = EqualWork(case.network, shape, size, len(pairs), steps, 1, seed)
        torch.manual_seed(seed)  # some libraries draw their probes from the global generator
        start = time.perf_counter()
        found = adapter.run(given.model, pairs, work)
        times = np.append(found.began, time.perf_counter()) - start
        given.model.zero_grad(set_to_none=True)
        return Run((found.nodes[0], found.weights[0]), float(times[0]), times[1:] - times[0])

    run(_small(given.pairs), 3, 0)
    return [
        run([pair], steps, 1 + BATCHES * repetition + batch)
        for batch, pair in enumerate(given.pairs[:batches])
    ]


# --- from runs to errors and seconds


def criteria_of(rule: Rule) -> dict[str, float]:
    """r_e and K_H1 of one probe, by this library's definitions."""
    re, kh1, *_ = probe_ratios(*rule, EPS, "product")
    return {"re": re, "kh1": kh1}


def values_of(runs: Sequence[Sequence[Run]], steps: int) -> dict[str, np.ndarray]:
    """The criteria after a number of steps [batches, repetitions]."""
    each = [[criteria_of(quadratures.shorter(r.rule, steps)) for r in turn] for turn in runs]
    return {c: np.array([[known[c] for known in turn] for turn in each]).T for c in CRITERIA}


def errors_of(case: StatedErrorCase, runs: Sequence[Sequence[Run]], exact: Ours) -> Errors:
    """The error of every criterion after every number of steps."""
    known = {c: Exact(exact.criteria[c], exact.stated[c]) for c in CRITERIA}
    return {
        steps: {c: errors.error_of(v, known[c]) for c, v in values_of(runs, steps).items()}
        for steps in case.steps
    }


def seconds_of(case: StatedErrorCase, runs: Sequence[Sequence[Run]]) -> dict[int, Linear]:
    """The seconds of a budget by its steps: medians over all runs."""
    flat = [run for turn in runs for run in turn]
    setup = float(np.median([run.setup for run in flat]))
    return {m: Linear(setup, float(np.median([r.ended[m - 1] for r in flat]))) for m in case.steps}


# --- records

Value = tuple[float, float | None, int | None]  # with its standard error, from how many


def case_records(case: StatedErrorCase, given: Input, found: Found) -> list[Record]:
    """The records of a case: columns `lla`, `reference`, and one for each other library.

    Args:
        case: what was measured.
        given: on which weights and data.
        found: what came of it.
    """
    timing = machine.environment("cpu")
    config = {**asdict(case), "steps": list(case.steps), "target": TARGET, "batches": BATCHES,
              "data_sha256": given.data.sha256, "weights_sha256": given.weights.sha256,
              "device": timing["device"]}  # fmt: skip

    def of(column: str, values: Iterator[tuple[str, Value]], **facts: Any) -> list[Record]:
        return [
            Record(
                table=TABLE, row=str(case), column=column, metric=metric, value=float(value),
                stderr=error, n=count, config=config, fidelity=given.fidelity, note=given.note,
                dtype="float32", batches=BATCHES, batch_size=case.batch_size, data=given.data,
                weights=given.weights, **facts, **timing,
            )
            for metric, (value, error, count) in values
        ]  # fmt: skip

    result = of("lla", _of_ours(found))
    result += of("reference", _of_reference(found.exact))
    for name, seconds in found.race.items():
        values: dict[str, Value] = {"seconds_product": (seconds, None, RACE - 1)}
        values |= dict(_of_other(case, found, name)) if name in found.runs else {}
        result += of(name, iter(values.items()))
    return result + [
        Record(
            table=TABLE, row=str(case), column=name, metric="seconds", value=None, config=config,
            verdict="not_run", reason=reason,
        )
        for name, reason in found.not_run.items()
    ]  # fmt: skip


def _of_ours(found: Found) -> Iterator[tuple[str, Value]]:
    ours, count = found.ours, len(found.ours)
    yield "seconds", (*median([run.seconds for run in ours]), count)
    yield "products", (*median([run.products for run in ours]), count)
    yield "met", (float(np.mean([run.met for run in ours])), None, count)
    for c in CRITERIA:
        stated = np.mean([run.stated[c] / run.criteria[c] for run in ours])
        yield f"stated_{c}", (float(stated), None, count)
        rms = errors.rms_of(np.array([run.criteria[c] for run in ours]), _exact(found, c))
        yield f"rms_{c}", (*rms, count)


def _of_reference(exact: Ours) -> Iterator[tuple[str, Value]]:
    for c in CRITERIA:
        yield c, (exact.criteria[c], exact.stated[c], None)
    yield "products", (exact.products, None, None)


def _exact(found: Found, criterion: str) -> Exact:
    return Exact(found.exact.criteria[criterion], found.exact.stated[criterion])


def _of_other(case: StatedErrorCase, found: Found, name: str) -> Iterator[tuple[str, Value]]:
    runs = found.runs[name]
    known, seconds = errors_of(case, runs, found.exact), seconds_of(case, runs)
    count = BATCHES * len(runs)
    for c, values in values_of(runs, case.steps[-1]).items():
        # its own mean, to be held against the reference
        scatter = math.sqrt(float(values.var(1, ddof=1).mean()) / values.size)
        yield c, (float(values.mean()), scatter, count)
    worst, steps = errors.least(known)
    yield "least", (worst, None, None)
    yield "least_steps", (steps, None, None)
    best = errors.cheapest(known, seconds, BATCHES, TARGET)
    if best is None:
        return
    yield "seconds", (best.seconds, None, None)
    yield "steps", (best.steps, None, None)
    yield "probes", (best.probes, None, None)
    for c, error in known[best.steps].items():
        yield f"rms_{c}", (error.rms(best.probes), error.stderr(best.probes), count)
    ends = errors.between(known, seconds, BATCHES, TARGET)
    for end, budget in zip(("low", "high"), ends, strict=True):
        if budget is not None:
            yield f"seconds_{end}", (budget.seconds, None, None)
    own = dict(_of_ours(found))
    # few repetitions may lie near the reference by chance: then the stated error counts
    larger = max(own[name][0] for name in ("rms_re", "rms_kh1", "stated_kh1"))
    equal = errors.cheapest(known, seconds, BATCHES, larger)
    if equal is not None:
        yield "seconds_equal", (equal.seconds, None, None)
