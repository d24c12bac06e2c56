"""What a target for the standard error saves, and whether the stated errors are honest.

Small networks, for which all eigenvalues of the Hessian are computed, are measured many times with
different probes. The results are compared with exact values: the means over all probes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

import lla
from benchmarks import reference
from benchmarks.inputs import Input, accuracy
from benchmarks.problems import Pairs
from benchmarks.timing import in_turn, median, standard_error, timed
from lla import data, training
from paper_tables.engine import machine
from paper_tables.engine.records import Record, Source

TARGET = 0.05  # of K_H1 and r_e, relative
FIXED = (10, 100, 4)  # the paper's probes, steps and batches
SIZE, COUNT = 64, 4  # of the batches
SIDE = 7  # of the pictures, pixels
AT_ONCE = 2000  # probes of which K_H1 follows from all eigenvalues


NETWORKS = {
    "perceptron": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(SIDE**2, 24), nn.ReLU(), nn.Linear(24, 10)
    ),
    "convolutional": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 10),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class HonestyCase:
    """The network that is measured, and how often."""

    network: str  # one of NETWORKS
    epochs: int
    repetitions: int
    random: int = 40_000  # probes behind the exact K_H1 of a batch

    def __str__(self) -> str:
        return self.network


@dataclass(frozen=True)
class SavingCase:
    """A comparison on LeNet of a budget set by a target with the fixed one."""

    batch_size: int
    steps: int  # Lanczos steps of the probes of the fixed budget that are timed
    examples: int | None = None  # of the accuracy pass; None: the whole data set
    most: int = 40  # batches that a target over batches may take
    rounds: int = 1  # of a target over probes and an accuracy pass, in turn

    def __str__(self) -> str:
        return f"lenet {self.batch_size}"


@dataclass(frozen=True)
class Repetitions:
    """The results of many measurements with a target."""

    # one row each: kh1, its stated stderr, whether the 95 % interval contained the exact value, re,
    # products
    runs: pd.DataFrame
    exact_kh1: float
    exact_re: float
    plain_deviation: float  # of K_H1 from probe to probe, without a target, relative
    parameters: int


def repeat(case: HonestyCase) -> Repetitions:
    """Measure a network once with each seed.

    Args:
        case: what to measure.
    """
    model, pairs = _network(case)
    spectra = [_spectrum(model, pair) for pair in pairs]
    ratios = [_ratios(*spectrum, case.random) for spectrum in spectra]
    kh1 = float(np.mean([r.mean() for r in ratios]))
    re = float(np.mean([max(0.0, -values[0]) / values[-1] for values, _ in spectra]))
    deviation = math.sqrt(float(np.mean([r.var() for r in ratios]))) / kh1
    target = lla.Target(TARGET, over="probes")
    runs = []
    for seed in tqdm(range(case.repetitions), desc=str(case), disable=None):
        found = lla.criteria(
            model, pairs, probes=200, seed=seed, target_stderr=target, route="retained"
        )
        assert found.adaptive is not None
        low, high = found.adaptive.accuracy["kh1"].interval
        estimate, held = found.kh1, low <= kh1 <= high
        runs.append((estimate.value, estimate.stderr, held, found.re.value, found.matvecs))
    table = pd.DataFrame(runs, columns=["kh1", "stderr", "held", "re", "products"])
    return Repetitions(table, kh1, re, deviation, len(spectra[0][0]))


def _network(case: HonestyCase) -> tuple[nn.Module, Pairs]:
    """A trained network in float64, and batches of digits."""
    digits = data.load("digits")
    x = torch.as_tensor(digits.images).double() / 255
    x, y = F.avg_pool2d(x, x.shape[-1] // SIDE), torch.as_tensor(digits.labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = NETWORKS[case.network]().double()
    training.train(model, (x, y), epochs=case.epochs, batch_size=64, lr=3e-3, seed=0)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    chosen = order[: SIZE * COUNT].split(SIZE)
    return model.eval(), [(x[i], y[i]) for i in chosen]


def _spectrum(model: nn.Module, pair: tuple[Tensor, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues [P] and eigenvectors [P, P] of the Hessian on one batch, by plain PyTorch."""
    product, size = reference.products(model, [pair])
    matrix = np.stack([product(row) for row in np.eye(size)])
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return values, vectors


def _ratios(values: np.ndarray, vectors: np.ndarray, probes: int) -> np.ndarray:
    """K_H1 of random probes [probes], from all eigenvalues."""
    rng, found = np.random.default_rng(1), []
    for _ in range(probes // AT_ONCE):
        signs = 2.0 * rng.integers(0, 2, (AT_ONCE, len(values))) - 1
        weights = (signs @ vectors) ** 2
        found.append((weights @ np.maximum(-values, 0)) / (weights @ np.maximum(values, 0)))
    return np.concatenate(found)


# --- LeNet, beside an accuracy pass


@dataclass(frozen=True)
class BudgetCost:
    """The cost of a budget, and the error that remains."""

    seconds: float
    # the time in accuracy passes over data on the device; with a standard error if both were timed
    # in turn
    passes: tuple[float, float | None]
    products: int
    batches: int
    errors: dict[str, float]  # of r_e and K_H1, relative
    converged: bool | None  # None where there was no target


def compare(case: SavingCase, given: Input) -> dict[str, BudgetCost]:
    """Measure LeNet with a target, over probes and over batches, and without one.

    Args:
        case: what is compared.
        given: LeNet with its batches; a target over probes uses only the first `COUNT`.

    Returns:
        The cost of `probes` and `batches`, and of `fixed`, which follows from one probe and two
        on one batch.
    """
    few = replace(given, pairs=given.pairs[:COUNT])
    found: list[lla.Criteria] = []

    def run(pairs: Pairs, **options: Any) -> float:
        criteria, seconds = timed(lambda: lla.criteria(given.model, pairs, **options))
        found.append(criteria)
        return seconds

    def to_target(pairs: Pairs, over: Literal["probes", "batches"]) -> float:
        return run(pairs, probes=100, target_stderr=lla.Target(TARGET, over))

    run(few.pairs[:1], probes=1, steps=2)  # warm up: some work is done once per process
    probes, steps, batches = FIXED
    one, two = (run(few.pairs[:1], probes=n, steps=case.steps) for n in (1, 2))
    fixed = batches * (one + (probes - 1) * (two - one)) * steps / case.steps
    accuracy(few.model, few.pairs[:1])
    with warnings.catch_warnings():  # a missed target is part of the result
        warnings.simplefilter("ignore", UserWarning)
        both = [
            lambda: to_target(few.pairs, "probes"),
            lambda: accuracy(few.model, few.resident()),
        ]
        turns = in_turn(both, case.rounds, warmup=0)
        over_probes, over_batches = found[-1], to_target(given.pairs, "batches")
    seconds, a_pass = np.median(turns, axis=0)
    ratio = median(turns[:, 0] / turns[:, 1])
    return {
        "fixed": BudgetCost(fixed, (fixed / a_pass, None), math.prod(FIXED), batches, {}, None),
        "probes": _spent(seconds, ratio, over_probes),
        "batches": _spent(over_batches, (over_batches / a_pass, None), found[-1]),
    }


def _spent(seconds: float, passes: tuple[float, float | None], found: lla.Criteria) -> BudgetCost:
    errors = {
        name: (estimate.stderr or math.inf) / estimate.value
        for name, estimate in (("re", found.re), ("kh1", found.kh1))
    }
    return BudgetCost(seconds, passes, found.matvecs, found.batches, errors, found.converged)


# --- records

TABLE = "adaptive"
HONESTY = "honesty"  # the column of networks that are measured many times
Values = Mapping[str, tuple[float | None, float | None]]  # with the standard error, by metric


def honesty_records(case: HonestyCase, found: Repetitions) -> list[Record]:
    """The records of one network that was measured many times.

    Args:
        case: what was measured.
        found: what came of it.
    """
    kh1, errors, held, re, products = (found.runs[name].to_numpy() for name in found.runs)
    relative = kh1 / found.exact_kh1 - 1
    stated = (errors / kh1).mean()
    values: Values = {
        "parameters": (found.parameters, None),
        "products": (products.mean(), standard_error(products)),
        "most_products": (products.max(), None),
        "plain_products": (found.plain_deviation**2 / stated**2 * FIXED[1], None),
        "kh1": (found.exact_kh1, None),
        "bias": (relative.mean(), standard_error(relative)),
        "scatter": (relative.std(ddof=1), None),
        "stated": (stated, None),
        "coverage": (held.mean(), _error_of_share(held)),
        "re_error": (np.abs(re / found.exact_re - 1).max(), None),
    }
    config = {"network": case.network, "epochs": case.epochs, "repetitions": case.repetitions,
              "target": TARGET, "batches": COUNT, "batch_size": SIZE}  # fmt: skip
    return _records(
        values, config, "probes", row=case.network, column=HONESTY, n=case.repetitions,
        dtype="float64", fidelity="substitute",
        data=Source("digits", data.load("digits").sha256),
    )  # fmt: skip


def saving_records(case: SavingCase, given: Input, found: dict[str, BudgetCost]) -> list[Record]:
    """The records of LeNet with a target, beside the fixed budget.

    Args:
        case: what was compared.
        given: on which weights and data.
        found: what came of it.
    """
    config = {"network": "lenet", "batch_size": case.batch_size, "target": TARGET,
              "examples": given.count, "data_sha256": given.data.sha256,
              "weights_sha256": given.weights.sha256}  # fmt: skip
    result = []
    for budget, spent in found.items():
        values: Values = {
            "seconds": (spent.seconds, None),
            "products": (spent.products, None),
            "passes": spent.passes,
            **{f"error_{name}": (error, None) for name, error in spent.errors.items()},
            "converged": (spent.converged, None),
        }
        result += _records(
            values, config, row=str(case), column=budget, n=given.count, dtype="float32",
            fidelity=given.fidelity, batches=spent.batches, batch_size=case.batch_size,
            data=given.data, weights=given.weights, note=given.note,
        )  # fmt: skip
    return result


def _records(
    values: Values, config: dict[str, Any], stderr_kind: str | None = None, **shared: Any
) -> list[Record]:
    """A record for each metric, except those without a target or with an infinite error."""
    timing = machine.environment()
    config = {**config, "device": timing["device"]}
    return [
        Record(
            table=TABLE, metric=metric, value=float(value), stderr=stderr,
            stderr_kind=None if stderr is None else stderr_kind, config=config, **shared, **timing,
        )
        for metric, (value, stderr) in values.items()
        if value is not None and math.isfinite(value)
    ]  # fmt: skip


def _error_of_share(held: np.ndarray) -> float:
    """Standard error of a share, with two added cases of each kind, so that it is never 0.

    A. Agresti and B. A. Coull, The American Statistician 52 (1998).
    """
    count = len(held) + 4
    share = (held.sum() + 2) / count
    return math.sqrt(share * (1 - share) / count)
