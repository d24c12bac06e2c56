"""The path that training took, on the two axes along which it moved most."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lla.arguments import real_number, whole_number
from lla.errors import InputError
from lla.landscape.flat_weights import Weights, flat_weights
from lla.landscape.identity import vector_hash
from lla.landscape.plane import Plane
from lla.parameters import ParameterSpace
from lla.plane_plots import plot_path
from lla.plotting import entitled
from lla.problem import Problem
from lla.saved import Saved
from lla.storage import FLOATS, array_faults, load_result, save_result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Path(Saved):
    """Weights theta_1, ..., theta_T projected on their first two principal axes about theta_T."""

    directions: Tensor  # [2, P], orthonormal; the first weights have no negative coordinate
    coordinates: np.ndarray  # [T, 2] float64 of theta_t - theta_T; the last are (0, 0)
    explained: np.ndarray  # [2] float64, shares of the variance
    weights_hash: str | None = None  # of theta_T; None in a file of an older version

    LONG: ClassVar[tuple[str, ...]] = ("directions",)

    def grid(self, points: int = 41, margin: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients [points] along each axis that enclose the path.

        With the model at the last weights, `lla.loss_plane(problem, axes=path.directions,
        coordinates=path.grid(), normalization=None)` is the landscape around the path.

        Args:
            points: along an axis.
            margin: added to the path at each end, as a share of its extent.

        Raises:
            InputError: fewer points than 2, or a margin that is negative or not finite.
        """
        points = whole_number("points", points, 2, _MOST_POINTS)
        share = real_number("margin", margin)
        if not 0 <= share < np.inf:
            raise InputError(f"the margin is {margin}: give 0 or a positive number")
        low, high = self.coordinates.min(0), self.coordinates.max(0)
        with np.errstate(all="ignore"):  # what overflows is refused
            beyond = share * (high - low)
            a, b = np.linspace(low - beyond, high + beyond, points).T
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise InputError(f"the margin is {margin}: give one with which the grid is finite")
        return a.copy(), b.copy()

    def plot(
        self, plane: Plane | None = None, *, ax: Axes | None = None, title: str | None = None
    ) -> Figure:
        """Draw the path, its start and its end, and arrows in the direction of time.

        Args:
            plane: the loss on the plane of `directions` around the last weights; drawn below.
            ax: axes to draw into; a new figure by default.
            title: above the picture; a new figure has that of the plane by default.

        Raises:
            InputError: the plane is centred at other weights or has other axes, or this is not
                known, since an older version made the plane or the path.
        """
        if plane is None:
            return entitled(ax, plot_path(self.coordinates, self.explained, ax=ax), title)
        self._check_below(plane)
        figure = plane.plot("contour", ax=ax, title=title)
        ax = figure.axes[0] if ax is None else ax
        for line in ax.get_lines():
            if line.get_label() == "weights":  # where the path ends
                line.remove()
        return plot_path(self.coordinates, self.explained, ax=ax, below=True)

    def to_frame(self) -> pd.DataFrame:
        """One row a set of weights, in the order of training: its two coordinates."""
        index = pd.RangeIndex(len(self.coordinates), name="step")
        return pd.DataFrame(self.coordinates, columns=["first", "second"], index=index)

    def __repr__(self) -> str:
        shares = " and ".join(f"{share:.1%}" for share in self.explained)
        return (
            f"Path of {len(self.coordinates)} weights of {self.directions.shape[1]} parameters\n"
            f"{shares} of the variance along its two axes"
        )

    def _check_below(self, plane: Plane) -> None:
        """Raise unless the plane has the path's last weights as its centre, and its directions."""
        for which, made, by in ((plane, "plane", "lla.loss_plane"), (self, "path", "pca_path")):
            if which.weights_hash is None:
                raise InputError(
                    f"the {made} does not say at which weights it is, since an older version of "
                    f"lla made it: compute it again with {by}"
                )
        if plane.weights_hash != self.weights_hash:
            raise InputError(
                "the plane is centred at other weights than the last of the path: compute it with "
                "the model at those weights"
            )
        if plane.direction_hashes != tuple(vector_hash(row) for row in self.directions):
            raise InputError(
                "the plane has other directions than the path: compute it with "
                "axes=path.directions and normalization=None"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to an npz file."""
        arrays = {**vars(self), "directions": self.directions.cpu().numpy()}
        save_result(_Arrays(**arrays), path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Path:
        """Read from an npz file.

        Raises:
            ChecksumError: the file is truncated or not an npz file, or contradicts itself.
            InputError: it holds another type of result, or none of this library.
        """
        arrays = vars(load_result(_Arrays, path, _faults))
        return cls(**{**arrays, "directions": torch.from_numpy(arrays["directions"])})


@dataclass(frozen=True)
class _Arrays:
    """The content of a path's file; files have the name of this class in them."""

    directions: np.ndarray
    coordinates: np.ndarray
    explained: np.ndarray
    weights_hash: str | None = None


def _faults(arrays: _Arrays) -> Iterator[str]:
    """Yield what is wrong with a path, so that an altered file is refused."""
    size = arrays.directions.shape[-1] if arrays.directions.ndim else 0
    count = len(arrays.coordinates) if arrays.coordinates.ndim else 0
    yield from array_faults(
        arrays,
        directions=((2, size), FLOATS),
        coordinates=((count, 2), "float64"),
        explained=((2,), "float64"),
    )
    if count < 3 or not np.isfinite(arrays.coordinates).all() or arrays.coordinates[-1].any():
        yield "coordinates are fewer than 3, not finite, or do not end at 0"
    shares = arrays.explained
    if not (shares[0] >= shares[1] >= 0 and shares.sum() <= 1 + _ORTHONORMAL):
        yield f"explained is {shares.tolist()}"
    directions = arrays.directions.astype(np.float64)
    if not (abs(directions @ directions.T - np.eye(2)) <= _ORTHONORMAL).all():
        yield "directions are not orthonormal"


def pca_path(
    thetas: Tensor | Sequence[Weights],
    space: ParameterSpace | nn.Module | Problem | None = None,
) -> Path:
    """Project the weights of a training run on their principal axes.

    Li et al. (2018), section 7.2: the principal axes of theta_t - theta_T, here for
    t = 1, ..., T with the last one included. They come from the T x T matrix of inner products in
    float64, which needs neither a matrix [P, P] nor a copy of all weights.

    Args:
        thetas: in the order of training: [T, P], or T flat vectors, models, state dicts or files.
        space: which tensors of state dicts are parameters: a model, a problem or its space. By
            default those of the first model among `thetas`; without a model, all floating-point
            tensors but the statistics of normalization layers. safetensors files, which do not
            keep the order of the parameters, need it.

    Raises:
        InputError: fewer than 3 weights, weights of different lengths or not finite, or a path
            that does not move or moves along a straight line only.
        MissingDataError, ChecksumError: a file is not there, or damaged.

    >>> path = pca_path(torch.tensor([[3.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 1.0]]))
    >>> path.directions.shape, [round(share, 2) for share in path.explained.tolist()]
    (torch.Size([2, 3]), [0.88, 0.12])
    """
    vectors = flat_weights(thetas, space)
    if len(vectors) < 3:
        raise InputError(f"there are {len(vectors)} weights: a path has two axes from 3 on")
    moved = _inner_products(vectors)  # [T, T] of theta_t - theta_T
    scale = float(moved.diagonal().max())
    if not np.isfinite(scale):
        raise InputError("the weights hold NaN or infinite elements: check where they come from")
    if scale == 0:
        raise InputError("all weights are the same, so the path has no axes: take others")
    centered = moved - moved.mean(0) - moved.mean(1, keepdims=True) + moved.mean()
    values, rows = np.linalg.eigh(centered)
    if values[-2] <= max(len(vectors) * _ROUNDING * values[-1], _noise(vectors)):
        raise InputError(
            "the weights lie on a straight line, so they have one axis only: take a line through "
            "the first and the last, axes=[first - last]"
        )
    values, rows = values[:-3:-1], rows[:, :-3:-1].T  # the two largest
    weights = (rows - rows.mean(1, keepdims=True)) / np.sqrt(values)[:, None]
    coordinates = moved @ weights.T
    signs = np.where(coordinates[0] < 0, -1.0, 1.0)
    return Path(
        directions=_combined(vectors, weights * signs[:, None]),
        coordinates=coordinates * signs,
        explained=values / np.trace(centered),
        weights_hash=vector_hash(vectors[-1]),
    )


def _inner_products(vectors: Sequence[Tensor]) -> np.ndarray:
    """The matrix [T, T] of (theta_s - theta_T)' (theta_t - theta_T)."""
    total = torch.zeros(len(vectors), len(vectors), dtype=torch.float64, device=vectors[0].device)
    for place in _slabs(vectors):
        moved = _moved(vectors, place)
        total += moved @ moved.T
    return total.cpu().numpy()


def _combined(vectors: Sequence[Tensor], weights: np.ndarray) -> Tensor:
    """Two orthonormal combinations [2, P] of theta_t - theta_T."""
    last = vectors[-1]
    factors = torch.from_numpy(weights).to(last.device)
    found = last.new_empty(len(weights), len(last))
    for place in _slabs(vectors):
        found[:, place] = (factors @ _moved(vectors, place)).to(last.dtype)
    return found


def _moved(vectors: Sequence[Tensor], place: slice) -> Tensor:
    """Some elements of theta_t - theta_T, [T, n] in float64."""
    part = torch.stack([vector[place] for vector in vectors]).double()
    return part - part[-1]


def _noise(vectors: Sequence[Tensor]) -> float:
    """The error of an eigenvalue that rounding of the weights can cause."""
    norm = torch.linalg.vector_norm(vectors[-1], dtype=torch.float64).item()
    return len(vectors) * (torch.finfo(vectors[-1].dtype).eps * norm) ** 2


def _slabs(vectors: Sequence[Tensor]) -> list[slice]:
    """Slices of the weights that are small enough to hold those of all T at once."""
    width = max(1, _ELEMENTS // len(vectors))
    return [slice(begin, begin + width) for begin in range(0, len(vectors[0]), width)]


_ORTHONORMAL = 1e-2  # float32 loses digits where the path hardly moves along the second axis
_MOST_POINTS = 10_001  # along an axis
_ELEMENTS = 2**24  # of a slab
_ROUNDING = 1e-14  # below this share of the largest eigenvalue an eigenvalue is noise
