"""The result of a walk on a level set of the training loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lla.errors import InputError
from lla.level_sets.plots import plot_levels
from lla.plotting import entitled
from lla.saved import Saved
from lla.storage import FLOATS, INTEGERS, array_faults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FLOATS = ("loss", "regularizer", "kkt", "multiplier", "step", "test_loss", "test_accuracy")
COUNTS = ("corrections", "rejected", "gradients", "regularizer_gradients")


@dataclass(frozen=True)
class LevelPath(Saved):
    """Points theta_1, ..., theta_T of a level set of the training loss, and numbers at each.

    What is not defined is NaN: the regularizer, `kkt` and `multiplier` of a free exploration, and
    what belongs to test data where none were given.
    """

    points: np.ndarray  # [K, P] theta at the points that were kept, the first and the last included
    kept: np.ndarray  # [K] their indices among the T points
    loss: np.ndarray  # [T] float64
    regularizer: np.ndarray  # [T] the one that the walk lowers
    kkt: np.ndarray  # [T] ||tau|| / ||g_R||: 0 at stationary points of L + lambda R
    multiplier: np.ndarray  # [T] lambda = ||g_L|| / ||g_R||
    step: np.ndarray  # [T] length of the step along the tangent that led there; 0 at the first
    corrections: np.ndarray  # [T] Newton corrections after it
    rejected: np.ndarray  # [T] steps that were tried before it and rejected
    gradients: np.ndarray  # [T] gradients of L spent so far
    regularizer_gradients: np.ndarray  # [T] gradients of R spent so far
    values: np.ndarray  # [T, M] other regularizers
    test_loss: np.ndarray  # [T]
    test_accuracy: np.ndarray  # [T]
    names: tuple[str, ...]  # [M] of the other regularizers
    walked: str  # name of the regularizer; "free exploration" without one
    level: float
    tol: float  # of |L / level - 1|
    stopped: str  # why the walk ended, in words
    rejected_last: int  # steps that were tried from the last point and rejected
    seed: int
    dtype: str

    LONG: ClassVar[tuple[str, ...]] = ("points",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))  # a file has a list

    def __len__(self) -> int:
        """T, the number of points."""
        return len(self.loss)

    def theta(self, index: int = -1) -> Tensor:
        """The point [P] at an index among those that were kept; the last by default."""
        return torch.from_numpy(self.points[index].copy())

    def other(self, name: str) -> np.ndarray:
        """The values [T] of another regularizer.

        Raises:
            InputError: it was not measured.
        """
        if name not in self.names:
            known = ", ".join(self.names) or "none was"
            raise InputError(f"{name!r} was not measured along the path: choose among {known}")
        found: np.ndarray = self.values[:, self.names.index(name)]
        return found

    @property
    def free(self) -> bool:
        """Whether it is a free exploration."""
        return bool(np.isnan(self.regularizer[0]))

    @property
    def deviation(self) -> float:
        """The largest |L / level - 1| of all points."""
        return float(np.abs(self.loss / self.level - 1).max())

    @property
    def rejection_rate(self) -> float:
        """The share of the steps tried that were rejected."""
        lost = int(self.rejected.sum()) + self.rejected_last
        return lost / max(1, lost + len(self) - 1)

    @property
    def lowest_test(self) -> int:
        """The index of the point of smallest test loss.

        Raises:
            InputError: there are no test data.
        """
        if np.isnan(self.test_loss[0]):
            raise InputError("the walk had no test data: give test=")
        return int(self.test_loss.argmin())

    def to_frame(self) -> pd.DataFrame:
        """One row a point."""
        columns = {name: getattr(self, name) for name in (*_FLOATS, *COUNTS)}
        columns |= {name: self.values[:, k] for k, name in enumerate(self.names)}
        return pd.DataFrame(columns, index=pd.RangeIndex(len(self), name="point"))

    def plot(self, ax: Axes | None = None, *, title: str | None = None) -> Figure:
        """Draw regularizer, other regularizers and test loss, each relative to its first value.

        Args:
            ax: axes to draw into; a new figure by default.
            title: above the picture.
        """
        curves = {} if self.free else {self.walked: self.regularizer}
        curves |= {n: self.other(n) for n in self.names if n != self.walked}
        if not np.isnan(self.test_loss[0]):
            curves["test loss"] = self.test_loss
        return entitled(ax, plot_levels(np.cumsum(self.step), curves, ax=ax), title)

    def __repr__(self) -> str:
        first = f"LevelPath of {len(self)} points at the loss {self.level:.4g}"
        lines = [f"within {self.deviation:.2g}; {self.stopped}"]
        if not self.free:
            lines.append(
                f"{self.walked} {self.regularizer[0]:.4g} to {self.regularizer[-1]:.4g}, KKT "
                f"residual {self.kkt[-1]:.2g}"
            )
        if not np.isnan(self.test_loss[0]):
            lines.append(f"test loss {self.test_loss[0]:.4g} to {self.test_loss[-1]:.4g}")
        return "\n".join([f"{first}, {self.walked}", *lines])

    def _faults(self) -> Iterator[str]:
        if self.loss.ndim != 1 or self.points.ndim != 2 or not len(self.loss):
            yield "it has no points"
        count = len(self.loss)
        yield from array_faults(
            self,
            points=(self.points.shape, FLOATS),
            kept=((len(self.points),), INTEGERS),
            values=((count, len(self.names)), "float64"),
            **dict.fromkeys(_FLOATS, ((count,), "float64")),
            **dict.fromkeys(COUNTS, ((count,), INTEGERS)),
        )
        if not (len(self.kept) and self.kept[0] == 0 and self.kept[-1] == count - 1):
            yield "the first or the last point was not kept"
        if not (self.deviation <= self.tol * (1 + 1e-9)):
            yield f"the loss leaves the level by {self.deviation:.3g}, more than {self.tol:.3g}"
