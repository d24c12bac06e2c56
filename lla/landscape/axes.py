"""The axes of a plane: directions with frozen parts, normalised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lla.arguments import seed_number
from lla.errors import InputError
from lla.hessian.eigenpairs import Which
from lla.landscape import directions as dirs
from lla.landscape.normalization import METHODS, Method, normalize
from lla.landscape.output import layer_changes, normalize_output
from lla.problem import Problem


@dataclass(frozen=True)
class RandomAxes:
    """Random axes: two span a plane, one a line."""

    distribution: dirs.Distribution = "normal"  # the paper's is "uniform" in [0, 1)
    count: int = 2


@dataclass(frozen=True)
class HessianAxes:
    """Eigenvectors of extreme eigenvalues of the Hessian: two span a plane, one a line."""

    which: Which = "LA"  # largest; "SA" smallest; "LM" largest in magnitude; "BE" both ends
    count: int = 2


@dataclass(frozen=True)
class AdamAxes:
    """The moments m and v of an Adam optimiser that has trained the model.

    The update "add" takes them as directions. With "adameq" the points are
    theta + a / sqrt(b) m / (sqrt(v) + eps), a in [-1, 1] and b in (0, 2], so that the unmodified
    weights are at every point with a = 0.
    """

    optimizer: torch.optim.Optimizer | None = None
    update: Literal["add", "adameq"] = "add"


@dataclass(frozen=True)
class Normalization:
    """How directions are scaled; see `lla.landscape.normalize` and `normalize_output`."""

    method: Method | Literal["output"] | None
    order: int = 2  # of the norm
    signed: bool = False  # sums in place of L1 norms, as in the authors' public code


NamedAxes = Literal["random", "hessian", "adam"]
GivenAxes = RandomAxes | HessianAxes | AdamAxes | Sequence[Tensor | nn.Module] | Tensor
Axes = NamedAxes | GivenAxes
AnyNormalization = Normalization | Method | Literal["output", "auto"] | None

RECOMMENDED: Literal["output"] = "output"  # see results/normalization.md
_NAMED: dict[str, GivenAxes] = {
    "random": RandomAxes(),
    "hessian": HessianAxes(),
    "adam": AdamAxes(),
}


def chosen_axes(axes: Axes) -> GivenAxes:
    """The axes that a name stands for; other axes are returned unchanged.

    Raises:
        InputError: an unknown name, update or count.
    """
    if isinstance(axes, str):
        if axes not in _NAMED:
            raise InputError(
                f"axes is {axes!r}: choose 'random', 'hessian', 'adam', or give two vectors or "
                "models"
            )
        return _NAMED[axes]
    if isinstance(axes, AdamAxes) and axes.update not in ("add", "adameq"):
        raise InputError(f"update is {axes.update!r}: choose 'add' or 'adameq'")
    if isinstance(axes, (RandomAxes, HessianAxes)) and axes.count not in (1, 2):
        raise InputError(f"count is {axes.count}: 2 directions span a plane, 1 a line")
    return axes


def plane_directions(
    problem: Problem,
    axes: Axes = "random",
    normalization: AnyNormalization = "auto",
    *,
    seed: int = 0,
    freeze: dirs.Freeze = None,
) -> Tensor:
    """The normalised directions [K, P] of a plane, zero for frozen parameters.

    The arguments are those of `loss_plane`.

    Raises:
        InputError: see `loss_plane`.
    """
    axes, seed = chosen_axes(axes), seed_number(seed)
    scaling = chosen_normalization(axes, normalization)
    if isinstance(axes, RandomAxes):
        rows = dirs.random_directions(problem.theta(), axes.count, axes.distribution, seed)
    elif isinstance(axes, HessianAxes):
        rows = dirs.hessian_directions(problem, axes.count, axes.which, seed)
    elif isinstance(axes, AdamAxes):
        rows = dirs.adam_directions(problem, axes.optimizer)
        rows = dirs.adameq_direction(rows) if axes.update == "adameq" else rows
    else:
        rows = dirs.given_directions(problem, axes)
    names = dirs.frozen(problem.space, freeze)
    theta = problem.theta()
    if names:
        theta, rows = (dirs.without(vector, problem.space, names) for vector in (theta, rows))
        if isinstance(axes, RandomAxes):
            rows = dirs.orthogonalized(rows)
    if scaling.method == "output":
        scaled = [normalize_output(problem, row) for row in rows]
    else:
        scaled = [
            normalize(row, theta, problem.space, scaling.method, scaling.order, scaling.signed)
            for row in rows
        ]
    for i, row in enumerate(scaled):
        if scaling.method == "output" and not row.any():
            _check_outputs(problem, i, rows[i])
    rows = torch.stack(scaled)
    dirs.check_axes(rows)
    return rows


def _check_outputs(problem: Problem, index: int, direction: Tensor) -> None:
    """Raise if a direction is zero because no layer's output depends on what moves."""
    scaled = normalize(direction, problem.theta(), problem.space, "filter")
    if scaled.any() and not any(layer_changes(problem, scaled).values()):
        raise InputError(
            f"direction {index} changes no layer's output: the loss does not depend on the "
            "parameters that move, so check that the model uses them, or freeze other ones"
        )


def chosen_normalization(axes: GivenAxes, normalization: AnyNormalization) -> Normalization:
    """The normalization that "auto" or the name of a method stands for; "auto" depends on the axes.

    Raises:
        InputError: an unknown method.
    """
    if normalization == "auto":
        return Normalization(RECOMMENDED if isinstance(axes, (RandomAxes, HessianAxes)) else None)
    if not isinstance(normalization, Normalization):
        normalization = Normalization(normalization)
    if normalization.method not in (None, "output", *METHODS):
        raise InputError(
            f"normalization is {normalization.method!r}: choose 'auto', None, 'output' or one of "
            f"{', '.join(METHODS)}"
        )
    return normalization
