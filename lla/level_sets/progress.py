"""How far a walk has come: numbers at its points, and the file from which it is continued."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lla.storage import FLOATS, array_faults, save_result
from lla.unfinished import SAVE_EVERY, read_unfinished

# numbers at a point, in this order; those of other regularizers follow
COLUMNS = (
    "loss", "regularizer", "kkt", "multiplier", "step", "corrections", "rejected", "gradients",
    "regularizer_gradients", "test_loss", "test_accuracy",
)  # fmt: skip


@dataclass
class Progress:
    """Where a walk stands after its last accepted point.

    Attributes:
        theta: the point [P].
        slope: gradient of L there [P].
        drive: gradient of R there [P]; 0 in a free exploration.
        direction: unit vector [P] of the last step.
        eta: length of the next step.
        rows: numbers of every point [T, columns].
        points: the points that are kept.
        kept: their indices.
        stopped: why the walk ended; "" while it goes on.
        rejected_last: steps that were rejected after the last point.
    """

    theta: Tensor
    slope: Tensor
    drive: Tensor
    direction: Tensor
    eta: float
    rows: list[list[float]] = field(default_factory=list)
    points: list[Tensor] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    stopped: str = ""
    rejected_last: int = 0

    def column(self, name: str) -> np.ndarray:
        """A number at every point [T]."""
        return np.array([row[COLUMNS.index(name)] for row in self.rows])

    def last(self, name: str) -> float:
        """A number at the last point."""
        return self.rows[-1][COLUMNS.index(name)]

    def all_points(self) -> tuple[np.ndarray, np.ndarray]:
        """The points that are kept [K, P] with the last one, and their indices [K]."""
        points, kept = list(self.points), list(self.kept)
        if kept[-1] != len(self.rows) - 1:
            points.append(self.theta.cpu())
            kept.append(len(self.rows) - 1)
        return torch.stack(points).numpy(), np.array(kept)


@dataclass(frozen=True)
class _Values:
    """The content of the file; files have the name of this class in them."""

    vectors: np.ndarray  # [4, P] theta, slope, drive, direction
    numbers: np.ndarray  # [T, columns] float64
    points: np.ndarray  # [K, P]
    kept: np.ndarray  # [K]
    eta: float
    stopped: str
    rejected_last: int
    fingerprint: str


def _faults(found: _Values) -> Iterator[str]:
    """Yield what is wrong with the content of a file."""
    size, count = found.vectors.shape[-1], len(found.numbers)
    yield from array_faults(
        found,
        vectors=((4, size), FLOATS),
        numbers=((count, found.numbers.shape[-1]), "float64"),
        points=((len(found.kept), size), FLOATS),
    )
    if not count or found.numbers.shape[1] < len(COLUMNS):
        yield "numbers of its points are missing"


class Checkpoint:
    """The file of a walk; without a path nothing is written.

    Args:
        path: of the file, or None.
        fingerprint: hash of what determines the walk.
    """

    def __init__(self, path: Path | None, fingerprint: str) -> None:
        self._path, self._fingerprint = path, fingerprint
        self._written = time.monotonic()

    def keep(self, done: Progress) -> None:
        """Write the file if the last time is some seconds ago."""
        if time.monotonic() - self._written > SAVE_EVERY:
            self.write(done)

    def write(self, done: Progress) -> None:
        """Write the file."""
        self._written = time.monotonic()
        if self._path is None:
            return
        vectors = torch.stack([done.theta, done.slope, done.drive, done.direction]).cpu().numpy()
        points = torch.stack(done.points).numpy()
        values = _Values(
            vectors, np.array(done.rows), points, np.array(done.kept), done.eta, done.stopped,
            done.rejected_last, self._fingerprint,
        )  # fmt: skip
        save_result(values, self._path)

    def read(self, device: torch.device) -> Progress | None:
        """The state in the file; None if there is none yet.

        Raises:
            InputError: it is of another walk.
            ChecksumError: it cannot be read, or its arrays do not fit each other.
        """
        if self._path is None or not self._path.exists():
            return None
        holds = ("this walk", "another walk")
        found = read_unfinished(_Values, self._path, self._fingerprint, holds, _faults)
        theta, slope, drive, direction = torch.from_numpy(found.vectors).to(device)
        return Progress(
            theta, slope, drive, direction, found.eta, found.numbers.tolist(),
            list(torch.from_numpy(found.points)), found.kept.tolist(), found.stopped,
            found.rejected_last,
        )  # fmt: skip
