"""Walks from the networks of a family, and the numbers that records keep of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import lla
from lla import level_sets
from lla.level_sets import LevelPath
from lla.saved import Saved
from lla.storage import array_faults
from paper_tables.engine.cells import Settings
from paper_tables.engine.records import config_hash
from paper_tables.engine.session import session_cached
from paper_tables.exhibits.level_sets.families import Family, config_of, examples, start

L2, JACOBIAN, FREE = "l2", "jacobian", "free exploration"
LONGER = "jacobian, twice the steps"
OTHERS = ("smooth_l1", "kappa", "trace")
MEASURED = ("l2", "jacobian", "kappa")
KEPT = 5  # every so many points are kept
KKT = 1e-3  # residual at which a walk may end before its steps are taken
HOW: dict[str, Any] = {
    "step": 1e-3,
    "max_step": 0.015,
    "momentum": 0.9,
    "tol": 0.02,
    "kkt_tol": KKT,
}

OF_ALL = (
    "deviation", "test_start", "test_end", "test_change", "lowest_change", "after_lowest",
    "lowest_at", "accuracy_start", "accuracy_end", "l2_change", "jacobian_change", "gradients",
    "rejected",
)  # fmt: skip
OF_WALKS = ("rise", "regularizer_start", "regularizer_end", "kkt")
TRACE = "trace"
OTHER_TRACE = ("other_trace_start", "other_trace_end")  # along other random vectors


def metrics(walk: str) -> tuple[str, ...]:
    """What is recorded of a walk itself."""
    others = OTHER_TRACE if walk == TRACE else ()
    return (*OF_ALL, *(() if walk == FREE else OF_WALKS), *others)


def measured(walk: str) -> tuple[str, ...]:
    """What is noted at each point; the trace costs much, and is noted where it is lowered."""
    return (*MEASURED, TRACE) if walk == TRACE else MEASURED


def regularizer(walk: str) -> str | None:
    """What `lla.level_sets.walk` is given."""
    return {FREE: None, LONGER: JACOBIAN}.get(walk, walk)


def steps_of(family: Family, walk: str) -> int:
    """Steps of a walk."""
    return 2 * family.steps if walk == LONGER else family.steps


@session_cached(size=100)
def walked(settings: Settings, family: Family, walk: str, seed: int) -> LevelPath:
    """One walk; an interrupted one goes on, and a finished one is read."""
    problem = start(settings, family, seed)
    given = regularizer(walk)
    device = settings.device.partition(":")[0]
    key = config_hash({**config_of(settings, family), "kept": KEPT, "device": device})
    steps = steps_of(family, walk)
    name = f"{family.data}-{given or 'free'}-{steps}-{seed}-{key}.npz"
    path = settings.work / "level_sets" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return level_sets.walk(
        problem, family.level, given, steps=steps, **HOW, measured=measured(walk),
        test=examples(settings, family, seed)[1], keep_every=KEPT, seed=seed, checkpoint=path,
    )  # fmt: skip


def numbers(path: LevelPath) -> dict[str, float]:
    """What is recorded of one walk, without the comparison; changes in percent."""
    low = path.lowest_test
    test = path.test_loss
    found = {
        "deviation": path.deviation,
        "test_start": test[0],
        "test_end": test[-1],
        "test_change": _change(test),
        "lowest_change": 100 * (test[low] / test[0] - 1),
        "after_lowest": 100 * (test[-1] / test[low] - 1),
        "lowest_at": low / max(1, len(path) - 1),
        "accuracy_start": 100 * path.test_accuracy[0],
        "accuracy_end": 100 * path.test_accuracy[-1],
        "l2_change": _change(path.other("l2")),
        "jacobian_change": _change(path.other("jacobian")),
        "gradients": path.gradients[-1],
        "rejected": 100 * path.rejection_rate,
    }
    if not path.free:
        R = path.regularizer
        found |= {
            "rise": float((np.diff(R) / np.abs(R[:-1])).max()), "regularizer_start": R[0],
            "regularizer_end": R[-1], "kkt": path.kkt[-1],
        }  # fmt: skip
    if TRACE in path.names:
        found |= dict(zip(OTHER_TRACE, path.other(TRACE)[[0, -1]], strict=True))
    return {name: float(value) for name, value in found.items()}


def plain_deviation(problem: lla.Problem, path: LevelPath) -> float:
    """The largest |L / level - 1| of the points kept, with L by a plain call of the network.

    The walk accepts only what it finds to be at the level itself, so this is the check on it.
    """
    (batch,) = problem.batches
    off = []
    for point in torch.from_numpy(path.points).to(batch.x):
        parts = problem.space.unflatten(point)
        with torch.no_grad():
            output = torch.func.functional_call(problem.model, parts, batch.x)
            off.append(abs(float(F.cross_entropy(output, batch.y)) / path.level - 1))
    return max(off)


def _change(values: np.ndarray) -> float:
    return float(100 * (values[-1] / values[0] - 1))


@dataclass(frozen=True)
class Curves(Saved):
    """What figures show of one kind of walk, network after network."""

    lengths: np.ndarray  # [S] points
    along: np.ndarray  # [N] length of the path up to each point, N points of all networks
    regularizer: np.ndarray  # [N]; NaN in a free exploration
    test_loss: np.ndarray  # [N]
    l2: np.ndarray  # [N]
    jacobian: np.ndarray  # [N]
    weighted: np.ndarray  # [S, W, 2] L and R of minima of weighted sums, or NaN; or W = 0

    @classmethod
    def of(cls, paths: Sequence[LevelPath], weighted: Sequence[np.ndarray]) -> Curves:
        """From the walks of a kind, and L and R [W, 2] of each one's weighted sums, if any."""

        def joined(values: Sequence[np.ndarray]) -> np.ndarray:
            return np.concatenate(values).astype(np.float32)

        return cls(
            lengths=np.array([len(path) for path in paths]),
            along=joined([np.cumsum(path.step) for path in paths]),
            regularizer=joined([path.regularizer for path in paths]),
            test_loss=joined([path.test_loss for path in paths]),
            l2=joined([path.other("l2") for path in paths]),
            jacobian=joined([path.other("jacobian") for path in paths]),
            weighted=np.stack(weighted) if weighted else np.zeros((len(paths), 0, 2)),
        )

    def each(self, name: str) -> list[np.ndarray]:
        """A number along each walk."""
        return np.split(getattr(self, name), np.cumsum(self.lengths)[:-1])

    def _faults(self) -> Iterator[str]:
        count = (int(self.lengths.sum()),)
        names = ("along", "regularizer", "test_loss", "l2", "jacobian")
        yield from array_faults(
            self,
            **dict.fromkeys(names, (count, "float32")),
            weighted=((len(self.lengths), self.weighted.shape[1], 2), "float64"),
        )


@dataclass(frozen=True)
class Together(Saved):
    """The walks of one network in one basis, with the loss on the plane through them."""

    names: tuple[str, ...]  # [K] walks
    lengths: np.ndarray  # [K] points of each
    coordinates: np.ndarray  # [N, 2]
    explained: np.ndarray  # [2]
    a: np.ndarray  # [A] coefficients along the first axis
    b: np.ndarray  # [B]
    loss: np.ndarray  # [A, B] training loss

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))  # a file has a list

    def each(self) -> dict[str, np.ndarray]:
        """The points of each walk on the axes."""
        return dict(
            zip(self.names, np.split(self.coordinates, np.cumsum(self.lengths)[:-1]), strict=True)
        )

    def _faults(self) -> Iterator[str]:
        yield from array_faults(
            self,
            coordinates=((int(self.lengths.sum()), 2), "float64"),
            loss=((len(self.a), len(self.b)), "float64"),
        )
