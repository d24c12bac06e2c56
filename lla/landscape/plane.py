"""The result of a loss plane: the values, with their picture and their judgement."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from lla.arguments import positive_number, whole_number
from lla.errors import InputError
from lla.landscape.explosion import Asymmetry, Explosion, asymmetry, explosion
from lla.plane_plots import plot_plane
from lla.plotting import entitled
from lla.saved import Saved
from lla.storage import FLOATS, array_faults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Plane(Saved):
    """The loss on a grid theta + a_i d_0 + b_j d_1; with one axis, on a line theta + a_i d_0."""

    loss: np.ndarray  # [n0, n1] or [n0], in the problem's type; infinite and NaN as they came
    a: np.ndarray  # [n0] float64, coefficients of the first direction
    b: np.ndarray  # [n1], of the second; [0] for a line
    evaluated: np.ndarray  # bool, shaped as loss; False where another part has the value
    scalars: np.ndarray  # [S, n0, n1] or [S, n0] float64
    names: tuple[str, ...]  # [S]
    center: float  # L(theta)
    classes: int | None  # C, outputs of the network
    axes: str
    distribution: str | None
    normalization: str | None
    order: int | None
    signed: bool
    update: str
    mode: str
    # "stored", "interpolated" towards another model, "batch", "recalibrated", or "none" without it
    batchnorm: str
    frozen: tuple[str, ...]
    seed: int
    norms: tuple[float, ...]  # of the directions
    route: str  # by which most points were evaluated
    key: str | None = None  # of a part: hash of what determines the values
    # hashes of theta and of the directions; a file of an older version has none
    weights_hash: str | None = None
    direction_hashes: tuple[str, ...] = ()
    about: str = ""  # model, number of examples and mode in words; empty if not known

    def _faults(self) -> Iterator[str]:
        if self.loss.ndim not in (1, 2) or not self.loss.size:
            yield f"loss has the shape {list(self.loss.shape)}"
        shape = self.loss.shape
        yield from array_faults(
            self,
            loss=(shape, FLOATS),
            a=(shape[:1], "float64"),
            b=(shape[1:] or (0,), "float64"),
            evaluated=(shape, "bool"),
            scalars=((len(self.names), *shape), "float64"),
        )
        if not (np.isfinite(self.a).all() and np.isfinite(self.b).all()):
            yield "coefficients are not finite"
        if not np.isnan(self.loss[~self.evaluated]).all():
            yield "there are losses where nothing was evaluated"
        if len(set(self.names)) < len(self.names):
            yield "two scalars have one name"
        if self.classes is not None and self.classes < 1:
            yield f"classes is {self.classes}"
        if not all(norm >= 0 for norm in self.norms):
            yield "a norm is negative"

    @property
    def coordinates(self) -> tuple[np.ndarray, ...]:
        """The coefficients along each axis."""
        return (self.a, self.b) if self.loss.ndim == 2 else (self.a,)

    @property
    def minimum(self) -> tuple[float, ...]:
        """Where the smallest finite loss is, in units of the directions.

        Raises:
            InputError: no loss is finite.
        """
        finite = np.isfinite(self.loss) & self.evaluated
        if not finite.any():
            raise InputError(
                "no value of the plane is finite, so it has no minimum: take a smaller distance"
            )
        values = np.where(finite, self.loss, np.inf)
        place = np.unravel_index(int(values.argmin()), values.shape)
        return tuple(float(c[i]) for c, i in zip(self.coordinates, place, strict=True))

    def scalar(self, name: str) -> np.ndarray:
        """The values of one scalar, shaped as the loss.

        Raises:
            InputError: it was not asked for.
        """
        if name not in self.names:
            known = ", ".join(self.names) or "none"
            raise InputError(f"there is no scalar {name!r} on this plane: it has {known}")
        return self.scalars[self.names.index(name)]

    def explosion(self, explodes: float = 100.0, rises: float = 10.0) -> Explosion:
        """How far the loss rises, see `lla.landscape.explosion`; a lower bound for a part."""
        return explosion(self.loss[self.evaluated], self.center, self.classes, explodes, rises)

    def asymmetry(self, level: float) -> Asymmetry:
        """The asymmetry of the set with a loss of at most the level: `lla.landscape.asymmetry`."""
        self._check_complete()
        return asymmetry(self.loss, self.coordinates, level)

    def subset(self, *indices: Sequence[int]) -> Plane:
        """The points with these indices along each axis.

        Raises:
            InputError: no list for each axis, an empty one, or an index that is not on the grid.
        """
        if len(indices) != self.loss.ndim:
            raise InputError(f"subset takes {self.loss.ndim} index lists, not {len(indices)}")
        if not all(map(len, indices)):
            raise InputError("subset has no index along an axis: give one or more")
        lists = [  # numbers, since NumPy takes [True] for a mask
            [whole_number("an index of the subset", index, -points, points - 1) for index in chosen]
            for points, chosen in zip(self.loss.shape, indices, strict=True)
        ]
        mesh: Any = np.ix_(*lists)
        kept = [c[i] for c, i in zip(self.coordinates, lists, strict=True)]
        return dataclasses.replace(
            self,
            loss=self.loss[mesh],
            evaluated=self.evaluated[mesh],
            scalars=self.scalars[(slice(None), *mesh)],
            a=kept[0],
            b=kept[1] if len(kept) == 2 else self.b,
        )

    def plot(
        self,
        kind: Literal["contour", "surface", "line"] | None = None,
        *,
        cap: float | None = None,
        log: bool | None = None,
        scalar: str | None = None,
        ax: Axes | None = None,
        title: str | None = None,
    ) -> Figure:
        """Draw the plane, see `lla.plane_plots.plot_plane`.

        Args:
            kind: "contour" with the smallest loss marked, "surface", or "line".
            cap: highest value shown.
            log: logarithmic colours and heights; by default where they span a factor of 100.
            scalar: name of a scalar to draw in place of the loss.
            ax: axes to draw into; a new figure by default.
            title: above the picture; a new figure has `about` by default.
        """
        self._check_complete()
        adameq = self.update == "adameq"
        units = [f"{axis}, in units of direction {i}" for i, axis in enumerate("ab", 1)]
        between = self.axes == "interpolation"
        if between:
            units = ["share of the way to the other weights"]
        figure = plot_plane(
            self.loss if scalar is None else self.scalar(scalar),
            self.coordinates,
            ("a, numerator", "b, under the root") if adameq else units,
            kind=kind,
            name=scalar or "loss",
            cap=cap,
            log=log,
            weights=(0.0, 1.0 if adameq else 0.0),  # with Adam's equation, all along a = 0
            minimum=self.minimum if scalar is None else None,
            other=1.0 if between else None,
            ax=ax,
        )
        return entitled(ax, figure, title, self.about)

    def to_frame(self) -> pd.DataFrame:
        """One row a point: its coefficients a and b, the loss, the scalars; `evaluated` if a part.

        On a line there is no column b.
        """
        mesh = np.meshgrid(*self.coordinates, indexing="ij")
        columns = {name: values.ravel() for name, values in zip("ab", mesh, strict=False)}
        columns["loss"] = self.loss.ravel()
        columns |= {name: self.scalar(name).ravel() for name in self.names}
        if not self.evaluated.all():
            columns["evaluated"] = self.evaluated.ravel()
        return pd.DataFrame(columns)

    def __repr__(self) -> str:
        points = " x ".join(map(str, self.loss.shape))
        finite = self.loss[np.isfinite(self.loss)]
        reach = f"{finite.min():.4g} to {finite.max():.4g}" if finite.size else "nowhere finite"
        normalization = f"normalization {self.normalization or 'none'}"
        missing = int((~self.evaluated).sum())
        return (
            f"{'Plane' if self.loss.ndim == 2 else 'Line'} of {self.about or 'a model'}: "
            f"{points} points, {self.axes} axes, {normalization}\n"
            f"loss {self.center:.4g} at the weights, {reach} on it"
            f"{f', {missing} points missing' if missing else ''}"
            f"{f', also {chr(44).join(self.names)}' if self.names else ''}"
        )

    def _check_complete(self) -> None:
        if not self.evaluated.all():
            raise InputError(
                f"{int((~self.evaluated).sum())} of {self.loss.size} points are missing: join "
                "the parts with lla.landscape.join first"
            )


def grid(steps: int = 40, distance: float = 1.0) -> np.ndarray:
    """Coefficients [steps + 1] from -distance / 2 to distance / 2, 0 exactly in the middle.

    Raises:
        InputError: fewer steps than 2 or an odd number, or a distance that is not positive.

    >>> grid(4)
    array([-0.5 , -0.25,  0.  ,  0.25,  0.5 ])
    """
    steps = whole_number("steps", steps)
    if not 2 <= steps <= _MOST_STEPS or steps % 2:
        raise InputError(
            f"steps is {steps}: give an even number from 2 on, so that the centre is a point, and "
            f"at most {_MOST_STEPS}"
        )
    distance = positive_number("distance", distance)
    with np.errstate(under="ignore"):  # what is too small is refused
        found = distance * ((np.arange(steps + 1) - steps // 2) / steps)
    if np.count_nonzero(found) < steps:
        raise InputError(f"distance is {distance}: give a larger one, so that the points differ")
    return found


_MOST_STEPS = 10_000  # along an axis: a hundred million points on a plane


def nested(points: int, steps: int = 40) -> list[int]:
    """Indices of a coarse grid within a finer one, with its ends and its centre.

    Raises:
        InputError: no such grid: points - 1 must divide steps and be even.

    >>> nested(5)
    [0, 10, 20, 30, 40]
    """
    points, steps = whole_number("points", points), whole_number("steps", steps, 2)
    if points < 3 or points % 2 == 0 or steps % (points - 1):
        raise InputError(
            f"a grid of {points} points is not nested in {steps} steps: points - 1 must be even "
            f"and divide {steps}"
        )
    return list(range(0, steps + 1, steps // (points - 1)))


def join(parts: Sequence[Plane]) -> Plane:
    """One plane from the parts that several processes evaluated.

    Raises:
        InputError: the parts are of different planes, or points are missing.
    """
    if not parts:
        raise InputError("there are no parts to join: give those of one plane")
    first = parts[0]
    loss, evaluated, scalars = first.loss.copy(), first.evaluated.copy(), first.scalars.copy()
    for other in parts[1:]:
        if not _same_plane(first, other):
            raise InputError("the parts are of different planes: give those of one call each")
        new = other.evaluated
        loss[new], scalars[:, new] = other.loss[new], other.scalars[:, new]
        evaluated |= new
    if not evaluated.all():
        raise InputError(f"{int((~evaluated).sum())} points are missing: give all parts")
    return dataclasses.replace(first, loss=loss, evaluated=evaluated, scalars=scalars, key=None)


_NOT_COMPARED = {"loss", "evaluated", "scalars", "route", "about"}


def _same_plane(one: Plane, other: Plane) -> bool:
    names = {f.name for f in dataclasses.fields(Plane)} - _NOT_COMPARED
    if one.weights_hash is None or other.weights_hash is None:  # of an older version: not known
        names -= {"weights_hash", "direction_hashes"}
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)
