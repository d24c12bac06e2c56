"""The minefield: weights of good runs and of poisoned ones that start from their checkpoints."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch import Tensor, nn

from lla.minima import Stage, train
from lla.parameters import ParameterSpace
from lla.saved import Saved
from lla.storage import array_faults
from lla.training import accuracy
from paper_tables.engine import store
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.records import Record
from paper_tables.exhibits.minima.cells import training_config
from paper_tables.exhibits.minima.tasks import DIGITS, Sets, fidelity, network, poisoned, sets

TABLE = "minima_minefield"
RUNS = 2  # good runs
GOOD_STEPS = 200  # of a good run, whose weights are taken at every look of the trainer
STARTS = (0, 50, 200)  # steps of the good runs at which poisoned ones start
BAD_STEPS, BAD_EVERY = 2000, 100  # of a poisoned run, and between two of its weights
SHARE = 0.2
COMPONENTS, PERPLEXITY = 50, 30.0
METRICS = ("good_accuracy", "bad_accuracy", "bad_training", "explained", "apart")


@dataclass(frozen=True)
class Field(Saved):
    """Weights in the plane of t-SNE."""

    at: np.ndarray  # [T, 2]
    run: np.ndarray  # [T] good run that they are of or started from
    start: np.ndarray  # [T] step at which the poison began; -1 of a good run
    step: np.ndarray  # [T] of the run
    test: np.ndarray  # [T] test accuracy in percent

    def _faults(self) -> Iterator[str]:
        count = (len(self.at),)
        yield from array_faults(
            self,
            at=((*count, 2), "float64"),
            run=(count, "int64"),
            start=(count, "int64"),
            step=(count, "int64"),
            test=(count, "float64"),
        )


def cells(settings: Settings) -> list[Cell]:
    """One cell, on digits."""
    variant = poisoned(SHARE, (BAD_STEPS, None))
    source = sets(settings, DIGITS.name, variant.name).source
    return [
        Cell(
            table=TABLE,
            row=DIGITS.name,
            column="t-SNE",
            name=f"{DIGITS.name}-minefield",
            metrics=METRICS,
            config={
                "training": training_config(DIGITS, variant, source), "runs": RUNS,
                "good": GOOD_STEPS, "bad": [BAD_STEPS, BAD_EVERY],
                "starts": list(STARTS), "components": COMPONENTS, "perplexity": PERPLEXITY,
                "seed": 0, "dtype": "float32",
            },
            fidelity=fidelity(settings, DIGITS.name),
            inputs=f"{RUNS} good runs and {RUNS * len(STARTS)} poisoned ones from their weights",
            compute=_compute,
            stage=2,
            seconds=25,
        )
    ]  # fmt: skip


@dataclass
class _Weights:
    """The weights of all runs so far, with what is known of them."""

    thetas: list[Tensor]
    facts: list[tuple[int, int, int, float]]  # run, start, step, test accuracy

    def add(self, model: nn.Module, found: Sets, run: int, start: int, step: int) -> None:
        """Take the present weights of a run."""
        self.thetas.append(ParameterSpace.of(model).read(model).double().cpu())
        self.facts.append((run, start, step, 100 * accuracy(model, *found.test)))


def _compute(cell: Cell, settings: Settings) -> list[Record]:
    found = sets(settings, DIGITS.name, "minefield")
    kept = _Weights([], [])
    trained = [right for run in range(RUNS) for right in _run(settings, found, kept, run)]
    run, start, step, test = (np.array(column) for column in zip(*kept.facts, strict=True))
    pca = PCA(min(COMPONENTS, len(run) - 1), svd_solver="full")
    thetas = torch.stack(kept.thetas).numpy()
    reduced = pca.fit_transform(thetas)
    perplexity = min(PERPLEXITY, (len(run) - 1) / 3)
    at = TSNE(perplexity=perplexity, random_state=0, init="pca").fit_transform(reduced)
    field = Field(at.astype(np.float64), run, start, step, test)
    artifact = store.save_result(field, f"minima/{cell.name}-{cell.hash}.npz", settings.work)
    is_good, is_bad = (start < 0) & (step == GOOD_STEPS), (start >= 0) & (step == BAD_STEPS)
    ends_good, ends_bad = test[is_good], test[is_bad]
    apart = _apart(thetas, run, is_good, is_bad)
    values = {
        "good_accuracy": (float(ends_good.mean()), _error(ends_good), len(ends_good)),
        "bad_accuracy": (float(ends_bad.mean()), _error(ends_bad), len(ends_bad)),
        "bad_training": (100 * float(np.mean(trained)), 100 * _error(np.array(trained)),
                         len(trained)),
        "explained": (100 * float(pca.explained_variance_ratio_.sum()), None, None),
        "apart": (100 * float(apart.mean()), 100 * _error(apart), len(apart)),
    }  # fmt: skip
    return [
        cell.record(
            metric, value, error, n=n, stderr_kind="networks" if n else None, data=found.source,
            artifact=artifact if metric == METRICS[0] else None,
        )
        for metric, (value, error, n) in values.items()
    ]  # fmt: skip


def _run(settings: Settings, found: Sets, kept: _Weights, run: int) -> list[float]:
    """A good run and the poisoned ones from its weights; training accuracies of the latter."""
    good, starts = network(DIGITS.name, run).to(settings.device), {}

    def look(step: int, *_: float) -> None:
        kept.add(good, found, run, -1, step)
        if step in STARTS:
            starts[step] = copy.deepcopy(good.state_dict())

    look(0)
    _train(good, found, Stage(0.0, GOOD_STEPS), look)
    return [_poison(weights, settings, found, kept, run, s) for s, weights in starts.items()]


def _poison(
    weights: dict[str, Tensor],
    settings: Settings,
    found: Sets,
    kept: _Weights,
    run: int,
    start: int,
) -> float:
    """Train a network with poison from weights of a good run; its training accuracy in the end."""
    bad = network(DIGITS.name, run).to(settings.device)
    bad.load_state_dict(weights)

    def look(step: int, *_: float) -> None:
        if step % BAD_EVERY == 0:
            kept.add(bad, found, run, start, step)

    _train(bad, found, Stage(SHARE, BAD_STEPS), look)
    return accuracy(bad, *found.data)


def _train(
    model: nn.Module, found: Sets, stage: Stage, look: Callable[[int, float, float], None]
) -> None:
    """All steps of a stage, whatever the loss."""
    how = {"stages": [stage], "lr": DIGITS.lr, "loss_bound": 1e-9, "on_check": look}
    train(model, found.data, found.poison, **how)  # type: ignore[arg-type]


def _apart(
    thetas: np.ndarray, run: np.ndarray, is_good: np.ndarray, is_bad: np.ndarray
) -> np.ndarray:
    """How far each bad end lies from the end of its good run, over the norm of the latter."""
    ends = {run[i]: thetas[i] for i in np.flatnonzero(is_good)}
    pairs = [(thetas[i], ends[run[i]]) for i in np.flatnonzero(is_bad)]
    return np.array([np.linalg.norm(b - g) / np.linalg.norm(g) for b, g in pairs])


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) / len(values) ** 0.5
