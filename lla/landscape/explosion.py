"""How far a loss plane rises, and whether its valley is symmetric about the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lla.arguments import real_number, whole_number
from lla.errors import InputError, NonFiniteError
from lla.saved import Saved


@dataclass(frozen=True)
class Explosion(Saved):
    """How far the loss rises on a plane, relative to the loss of guessing."""

    verdict: str  # "explodes" | "rises" | "none"
    ratio: float  # largest finite loss / max(loss at the centre, ln C)
    nonfinite: int  # points where the loss is infinite or NaN; any of them explodes
    points: int  # evaluated


@dataclass(frozen=True)
class Asymmetry(Saved):
    """The shape of a sublevel set {loss <= level} about the centre of the grid."""

    share: float  # of its points whose mirror image is not in it; 0 for a symmetric set
    offset: tuple[float, ...]  # [axes] its centroid, in units of the directions
    points: int  # in the set, without the centre; with 0 the other fields mean nothing
    level: float


def explosion(
    loss: np.ndarray,
    center: float,
    classes: int | None,
    explodes: float = 100.0,
    rises: float = 10.0,
) -> Explosion:
    """Judge the values of a plane.

    The unit is the larger of L(theta) and ln C, the loss of guessing.

    Args:
        loss: of any shape; infinite and NaN values are counted.
        center: L(theta).
        classes: C; None takes L(theta) alone.
        explodes: from this ratio on, or with a value that is not finite, it is an explosion.
        rises: from this ratio on it is a rise.

    Raises:
        InputError: no value, thresholds not in order, or no positive unit.
        NonFiniteError: the loss at the centre is not finite.

    >>> explosion(np.array([1.0, 500.0]), 0.1, 10).verdict
    'explodes'
    """
    if loss.size == 0:
        raise InputError("the plane has no evaluated point: evaluate some")
    if not 0 < rises <= explodes:
        raise InputError(f"the thresholds are rises={rises}, explodes={explodes}: keep their order")
    center = real_number("center", center)
    classes = None if classes is None else whole_number("classes", classes, 1)
    if not math.isfinite(center):
        raise NonFiniteError(f"the loss at the centre is {center}: check the weights")
    unit = max(center, math.log(classes) if classes else 0.0)
    if unit <= 0:
        raise InputError(
            f"the loss at the centre is {center}, so there is no unit to measure a rise in: give "
            "the number of classes"
        )
    values = loss.astype(np.float64)
    finite = values[np.isfinite(values)]
    ratio = float(finite.max()) / unit if finite.size else 0.0
    nonfinite = int(values.size - finite.size)
    verdict = (
        "explodes" if nonfinite or ratio >= explodes else "rises" if ratio >= rises else "none"
    )
    return Explosion(verdict, ratio, nonfinite, int(values.size))


def asymmetry(loss: np.ndarray, coordinates: tuple[np.ndarray, ...], level: float) -> Asymmetry:
    """The skew of a sublevel set about the origin of symmetric coordinates.

    A minimum whose loss is even about it, as a quadratic's is, has share 0 and offset 0 at every
    level.

    Args:
        loss: one axis a coordinate; a value that is not finite is above every level.
        coordinates: of each axis, from -d to d in equal steps.
        level: loss up to which a point belongs to the set.

    Raises:
        InputError: coordinates that are not symmetric about 0, or a level that is not finite.

    >>> x = np.linspace(-1, 1, 5)
    >>> asymmetry(x**2, (x,), 0.5).share, asymmetry(x, (x,), -0.2).share
    (0.0, 1.0)
    """
    level = real_number("level", level)
    if not math.isfinite(level):
        raise InputError(f"the level is {level}: give a finite loss")
    for values in coordinates:
        with np.errstate(all="ignore"):
            symmetric = np.allclose(values, -values[::-1])
        if not symmetric:
            raise InputError(
                f"the coordinates run from {values[0]:g} to {values[-1]:g}: asymmetry is about the "
                "centre and needs them symmetric about 0"
            )
    with np.errstate(all="ignore"):
        inside = loss.astype(np.float64) <= level  # NaN is not
    mesh = np.stack(np.meshgrid(*coordinates, indexing="ij"))
    inside = inside & (np.abs(mesh).max(0) > 0)
    count = int(inside.sum())
    if count == 0:
        return Asymmetry(0.0, (0.0,) * len(coordinates), 0, level)
    lonely = inside & ~np.flip(inside)
    centroid = tuple(float(values) for values in mesh[:, inside].mean(1))
    return Asymmetry(float(lonely.sum() / count), centroid, count, level)
