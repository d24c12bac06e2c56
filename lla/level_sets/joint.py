"""Several walks in one basis, and the loss on the plane through them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lla.errors import InputError
from lla.landscape.loss_plane import loss_plane
from lla.landscape.path import Path, pca_path
from lla.landscape.plane import Plane
from lla.level_sets.level_path import LevelPath
from lla.level_sets.plots import plot_paths
from lla.problem import Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Joint:
    """Walks projected on the two axes along which the points of all of them spread most."""

    basis: Path  # of all points that were kept, one walk after the other
    coordinates: tuple[np.ndarray, ...]  # one a walk [K, 2], about the last point of the last
    origin: Tensor  # [P] that point

    @property
    def explained(self) -> np.ndarray:
        """Shares [2] of the variance of all points."""
        return self.basis.explained

    def plot(
        self, names: Sequence[str], below: Plane | None = None, ax: Axes | None = None
    ) -> Figure:
        """Draw the walks; a dot marks the start, a cross the end.

        Args:
            names: of the walks, for the legend; walks of one name have one colour.
            below: the loss on the plane through them, see `plane`.
            ax: axes to draw into; a new figure by default.

        Raises:
            InputError: not as many names as walks.
        """
        if len(names) != len(self.coordinates):
            raise InputError(f"there are {len(names)} names for {len(self.coordinates)} walks")
        grouped: dict[str, list[np.ndarray]] = {}
        for name, found in zip(names, self.coordinates, strict=True):
            grouped.setdefault(name, []).append(found)
        if below is not None:
            figure = below.plot("contour", ax=ax)
            ax = figure.axes[0] if ax is None else ax
        return plot_paths(grouped, self.explained, ax=ax)


def pca(paths: Sequence[LevelPath]) -> Joint:
    """Principal axes of the points of several walks together, by `lla.landscape.pca_path`.

    Args:
        paths: walks of one network; the points that each has kept are used, so that a walk with
            more of them counts more.

    Raises:
        InputError: no walk, or see `lla.landscape.pca_path`.
    """
    if not paths:
        raise InputError("there is no walk: give at least one")
    points = [torch.from_numpy(point) for path in paths for point in path.points]
    basis = pca_path(points)
    ends = np.cumsum([len(path.points) for path in paths])[:-1]
    return Joint(basis, tuple(np.split(basis.coordinates, ends)), points[-1])


def plane(
    problem: Problem, joint: Joint, points: int = 21, margin: float = 0.2, **options: Any
) -> Plane:
    """The loss on the plane through walks, with the origin at the last point of the last walk.

    Args:
        problem: with training data or with others; its weights do not matter.
        joint: of the walks.
        points: along an axis.
        margin: beyond the walks, as a share of their extent.
        **options: of `lla.loss_plane`.
    """
    basis = joint.basis
    there = problem.at(joint.origin.to(problem.device, problem.dtype))
    a, b = basis.grid(points, margin)
    return loss_plane(
        there, axes=list(basis.directions), coordinates=(a.tolist(), b.tolist()),
        normalization=None, **options,
    )  # fmt: skip
