"""The axes of a plane: directions, frozen where asked, and normalised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lla.errors import InputError
from lla.hessian.eigenpairs import Which
from lla.landscape import directions as dirs
from lla.landscape.normalization import METHODS, Method, normalize
from lla.landscape.output import normalize_output
from lla.problem import Problem

Normalization = Method | Literal["output"] | None
Axes = Literal["random", "hessian", "adam"] | Sequence[Tensor | nn.Module] | Tensor

RECOMMENDED: Normalization = "output"  # see results/normalization.md


def plane_directions(
    problem: Problem,
    axes: Axes = "random",
    *,
    count: int = 2,
    distribution: dirs.Distribution = "normal",
    normalization: Normalization | Literal["auto"] = "auto",
    order: int = 2,
    signed: bool = False,
    seed: int = 0,
    update: Literal["add", "adameq"] = "add",
    which: Which = "LA",
    optimizer: torch.optim.Optimizer | None = None,
    freeze: dirs.Freeze = None,
) -> Tensor:
    """The directions [K, P] of a plane, normalised, with zeros for what is frozen.

    Arguments as of `loss_plane`; `count` is the number of random or Hessian directions.

    Raises:
        InputError: see `loss_plane`.
    """
    method = chosen_normalization(axes, normalization)
    if isinstance(axes, str):
        if axes == "random":
            rows = dirs.random_directions(problem.theta(), count, distribution, seed)
        elif axes == "hessian":
            rows = dirs.hessian_directions(problem, count, which, seed)
        elif axes == "adam":
            rows = dirs.adam_directions(problem, optimizer)
            rows = dirs.adameq_direction(rows) if update == "adameq" else rows
        else:
            raise InputError(
                f"axes is {axes!r}: choose 'random', 'hessian', 'adam', or give two vectors or "
                "models"
            )
    else:
        rows = dirs.given_directions(problem, axes)
    names = dirs.frozen(problem.space, freeze)
    theta = problem.theta()
    if names:
        theta, rows = (dirs.without(vector, problem.space, names) for vector in (theta, rows))
        if axes == "random":
            rows = dirs.orthogonalized(rows)
    if method == "output":
        rows = torch.stack([normalize_output(problem, row) for row in rows])
    else:
        rows = torch.stack(
            [normalize(row, theta, problem.space, method, order, signed) for row in rows]
        )
    dirs.check_axes(rows)
    return rows


def chosen_normalization(axes: Axes, normalization: str | None) -> Normalization:
    """What "auto" stands for, others as they are.

    Raises:
        InputError: an unknown normalization.
    """
    if normalization == "auto":
        return RECOMMENDED if isinstance(axes, str) and axes in ("random", "hessian") else None
    known = (None, "output", *METHODS)
    if normalization not in known:
        raise InputError(
            f"normalization is {normalization!r}: choose 'auto', None, 'output' or one of "
            f"{', '.join(METHODS)}"
        )
    return normalization  # type: ignore[return-value]
