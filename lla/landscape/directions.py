"""Directions in the space of the parameters, for the axes of a plane."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lla.arguments import seed_number, whole_number
from lla.errors import InputError
from lla.free_memory import check_fits
from lla.hessian.eigenpairs import Which, top_eigenpairs
from lla.hessian.operator import HessianOperator
from lla.landscape.normalization import check_direction
from lla.parameters import ParameterSpace, Pattern
from lla.probes import gaussian, uniform
from lla.problem import Problem

Distribution = Literal["normal", "uniform"]
Freeze = Pattern | Sequence[Pattern] | range | None


def random_directions(
    like: Tensor, count: int = 2, distribution: Distribution = "normal", seed: int = 0
) -> Tensor:
    """Random directions [count, P], each made orthogonal to those before it.

    Args:
        like: a vector [P]; gives type and device.
        count: how many.
        distribution: "normal", or "uniform" in [0, 1), as in the paper's section 2.2: its mean
            of 1/2 moves all weights together.
        seed: direction i is drawn from (seed, i).

    Raises:
        InputError: another distribution, or a count below 1 or above P.
        InsufficientMemoryError: they do not fit into memory.
    """
    if distribution not in ("normal", "uniform"):
        raise InputError(f"distribution is {distribution!r}: choose 'normal' or 'uniform'")
    count, seed = whole_number("count", count, 1, len(like)), seed_number(seed)
    check_fits(
        2 * count * like.numel() * like.element_size(), like.device,
        f"{count} directions of {len(like)} elements", "take fewer",
    )  # fmt: skip
    draw = gaussian if distribution == "normal" else uniform
    return orthogonalized(torch.stack([draw(len(like), like, seed, i) for i in range(count)]))


def orthogonalized(directions: Tensor) -> Tensor:
    """The directions [K, P], each without its component along those before it (Gram-Schmidt).

    Raises:
        InputError: they are no matrix of floating-point numbers, or not finite.
    """
    if directions.ndim != 2 or len(directions) == 0 or not directions.is_floating_point():
        raise InputError(
            f"the directions are {directions.dtype} {tuple(directions.shape)}: give a floating "
            "matrix with one in each row"
        )
    if not bool(torch.isfinite(directions).all()):
        raise InputError("a direction holds NaN or infinite elements: check where it comes from")
    found: list[Tensor] = []
    for direction in directions:
        rest = direction.clone()
        for earlier in found:
            square = inner(earlier, earlier)
            if square > 0:
                rest = rest.sub_(earlier, alpha=inner(rest, earlier) / square)
        found.append(rest)
    return torch.stack(found)


def hessian_directions(
    problem: Problem,
    count: int = 2,
    which: Which = "LA",
    seed: int = 0,
    tol: float = 1e-3,
    basis_size: int | None = None,
) -> Tensor:
    """The eigenvectors [count, P] of the Hessian's largest eigenvalues, of norm 1.

    Args:
        problem: whose Hessian; all batches together.
        count: how many.
        which: "LA" largest, "SA" smallest, "LM" largest in magnitude, which power iteration finds,
            "BE" both ends in turn.
        seed: of the start vector.
        tol: of the residuals, see `lla.top_eigenpairs`.
        basis_size: most vectors held at once, see `lla.top_eigenpairs`.

    Raises:
        InputError: the Hessian is zero; see `lla.top_eigenpairs`.
    """
    # always the same route: an interrupted plane, or another part of it, needs the same bits
    operator = HessianOperator(problem, route="fresh")
    pairs = top_eigenpairs(operator, count, which, seed, tol=tol, basis_size=basis_size)
    random = gaussian(operator.shape[0], operator.theta, seed, 1)
    if not pairs.values.any() and not (operator @ random).any():
        raise InputError(
            "the Hessian is zero, so no eigenvector stands out: the loss does not depend on the "
            "parameters, or it is linear in them, so check the model and the loss, or take "
            "axes='random'"
        )
    return torch.from_numpy(pairs.vectors).to(problem.device)


def adam_directions(problem: Problem, optimizer: torch.optim.Optimizer | None) -> Tensor:
    """The first and second moments [2, P] that a trained Adam optimiser holds.

    Kingma and Ba (2015), algorithm 1: m and v, without bias correction.

    Raises:
        InputError: no optimiser, one of another model, or one that has made no step.
    """
    if optimizer is None:
        raise InputError(
            "axes='adam' needs the optimizer that trained the model: give AdamAxes(optimizer)"
        )
    known = {id(p) for group in optimizer.param_groups for p in group["params"]}
    parameters = dict(problem.model.named_parameters())
    moments: list[dict[str, Tensor]] = [{}, {}]
    for name in problem.space.names:
        if id(parameters[name]) not in known:
            raise InputError(
                f"the optimizer does not hold the parameter {name}: give the one that trained "
                "this very model"
            )
        state = optimizer.state.get(parameters[name], {})
        for found, key in zip(moments, ("exp_avg", "exp_avg_sq"), strict=True):
            if key not in state:
                raise InputError(
                    f"the optimizer holds no {key} of {name}: it must be Adam, and have made a step"
                )
            found[name] = state[key].detach()
    return torch.stack([problem.space.flatten(found) for found in moments]).to(problem.theta())


def adameq_direction(moments: Tensor, eps: float = 1e-8) -> Tensor:
    """Adam's step [1, P] for moments m, v [2, P]: m / (sqrt(v) + eps)."""
    return (moments[0] / (moments[1].sqrt() + eps))[None]


def given_directions(problem: Problem, axes: Sequence[Tensor | nn.Module] | Tensor) -> Tensor:
    """Directions [K, P]: flat vectors as they are, or from these weights to those of other models.

    Raises:
        InputError: a vector or a model of another shape; more than two.
    """
    theta = problem.theta()
    if not isinstance(axes, (Sequence, Tensor)):
        raise InputError(
            f"axes is {type(axes).__name__}: give a list of two vectors or models, or of one for a "
            "line"
        )
    if not 1 <= len(axes) <= 2:
        raise InputError(f"there are {len(axes)} axes: give two, or one for a line")
    found = []
    for axis in axes:
        if isinstance(axis, nn.Module):
            space = ParameterSpace.of(axis)
            if (space.names, space.shapes) != (problem.space.names, problem.space.shapes):
                raise InputError(
                    f"the model that an axis points to ({type(axis).__name__}, {space.size} "
                    f"parameters) has other parameters than this one ({problem.space.size}): give "
                    "one of the same architecture"
                )
            found.append(space.read(axis).to(theta) - theta)
        elif isinstance(axis, Tensor):
            check_direction(axis, problem.space)
            found.append(axis.detach().to(theta))
        else:
            raise InputError(f"an axis is {type(axis).__name__}: give flat vectors or models")
    return torch.stack(found)


def frozen(space: ParameterSpace, freeze: Freeze) -> tuple[str, ...]:
    """The names of the parameters that do not move.

    Args:
        space: the parameters.
        freeze: name patterns as in `lla.ParameterSpace.select`, or a range of positions in
            `space.names`; None freezes nothing.

    Raises:
        InputError: a pattern matches nothing or is not a pattern, a position is out of range, or
            no parameter is left.
    """
    if freeze is None:
        return ()
    if isinstance(freeze, range):
        if len(freeze) == 0 or min(freeze) < 0 or max(freeze) >= len(space.names):
            raise InputError(
                f"freeze is {freeze} for {len(space.names)} parameters: give positions from 0 to "
                f"{len(space.names) - 1}"
            )
        names = tuple(space.names[i] for i in freeze)
    else:
        patterns = [freeze] if isinstance(freeze, (str, re.Pattern)) else list(freeze)
        if not all(isinstance(pattern, (str, re.Pattern)) for pattern in patterns):
            raise InputError(f"freeze is {freeze}: give name patterns, or positions as a range")
        names = space.select(patterns).names
    if len(names) == len(space.names):
        raise InputError("freeze leaves no parameter to move: freeze fewer")
    return names


def without(vector: Tensor, space: ParameterSpace, names: Sequence[str]) -> Tensor:
    """A copy of a vector [..., P] with zeros for the named parameters."""
    vector = vector.clone()
    for name, _, place in space:
        if name in names:
            vector[..., place] = 0
    return vector


def check_axes(directions: Tensor) -> None:
    """Raise unless the directions [K, P] are linearly independent.

    Raises:
        InputError: a zero direction, or two parallel ones.
    """
    norms = [inner(direction, direction) ** 0.5 for direction in directions]
    for i, norm in enumerate(norms):
        if norm == 0:
            raise InputError(
                f"direction {i} is zero after normalization and freezing: give another, or freeze "
                "fewer parameters"
            )
    if len(directions) == 2:
        cosine = inner(directions[0], directions[1]) / (norms[0] * norms[1])
        if abs(cosine) > 1 - 1e-6:
            raise InputError(
                f"the two directions are parallel (cosine {cosine:.7f}): they span no plane"
            )


def inner(a: Tensor, b: Tensor) -> float:
    """The inner product of two vectors in float64, computed in slabs that fit into a cache."""
    parts = [
        torch.dot(x.double(), y.double())
        for x, y in zip(a.split(_SLAB), b.split(_SLAB), strict=True)
    ]
    return torch.stack(parts).sum().item()


_SLAB = 2**18
