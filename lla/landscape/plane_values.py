"""The values of an unfinished plane, in memory and in a file from which it is continued."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lla.arguments import whole_number
from lla.errors import InputError
from lla.ranks import ALONE, Ranks
from lla.storage import array_faults, save_result
from lla.unfinished import SAVE_EVERY, read_shared


class PlaneValues:
    """The values so far, in memory and, if a path is given, in a file.

    Args:
        count: N, points of the whole plane.
        scalars: S, numbers a point beside the loss.
        dtype: of the losses.
        path: the file, or None; values are read from it if it exists.
        part: (k, n), every n-th point from the k-th on; None means all.
        fingerprint: hash of what determines the values.
        ranks: processes that all have the values; the first one reads and writes the file.

    Attributes:
        loss: [N].
        scalars: [S, N].
        done: [N], whether a point has its values.
        mine: [N], whether a point belongs to the part.
        route: by which the last values were computed.

    Raises:
        InputError: an impossible part, or a file of another plane.
        ChecksumError: the file cannot be read, or its arrays do not fit the plane.
    """

    def __init__(
        self,
        count: int,
        scalars: int,
        dtype: type[np.floating],
        path: Path | None,
        part: tuple[int, int] | None,
        fingerprint: str,
        ranks: Ranks = ALONE,
    ) -> None:
        k, n = _checked_part(part)
        self.loss = np.full(count, np.nan, dtype)
        self.scalars = np.full((scalars, count), np.nan)
        self.done = np.zeros(count, dtype=bool)
        self.mine = np.arange(count) % n == k
        self.route = "loop"
        self._path, self._written = path, time.monotonic()
        self._fingerprint = f"{fingerprint} {k}/{n}"
        self._writes = path is not None and ranks.rank == 0
        self._read(path, ranks)

    def put(
        self,
        indices: Sequence[int] | np.ndarray,
        losses: Sequence[float] | np.ndarray,
        scalars: np.ndarray,
        route: str,
    ) -> None:
        """Add some values; the file is written every few seconds."""
        self.loss[indices], self.scalars[:, indices], self.done[indices] = losses, scalars, True
        self.route = route
        if time.monotonic() - self._written > SAVE_EVERY:
            self.write()

    def write(self) -> None:
        """Write the file, if there is a path."""
        self._written = time.monotonic()
        if self._path is not None and self._writes:
            values = _Values(self.loss, self.scalars, self.done, self.route, self._fingerprint)
            save_result(values, self._path)

    def _read(self, path: Path | None, ranks: Ranks) -> None:
        names = ("loss", "scalars", "done")
        shapes = {n: (getattr(self, n).shape, getattr(self, n).dtype.name) for n in names}
        values = read_shared(
            _Values, path, self._fingerprint, ("this plane", "the values of another plane"),
            lambda found: array_faults(found, **shapes), ranks,
        )  # fmt: skip
        if values is None:
            return
        self.loss, self.scalars, self.done = values.loss, values.scalars, values.done
        self.route = values.route


def _checked_part(part: tuple[int, int] | None) -> tuple[int, int]:
    """The part (k, n); (0, 1) for all points."""
    try:
        k, n = part or (0, 1)
    except (TypeError, ValueError) as error:
        raise InputError(f"part is {part!r}: give (k, n) with 0 <= k < n") from error
    k, n = whole_number("k of the part", k), whole_number("n of the part", n)
    if not 0 <= k < n:
        raise InputError(f"part is {part}: give (k, n) with 0 <= k < n")
    return k, n


@dataclass(frozen=True)
class _Values:
    """The content of the file; files have the name of this class in them."""

    loss: np.ndarray
    scalars: np.ndarray
    done: np.ndarray
    route: str
    fingerprint: str
