"""Scaling a direction to the size of the weights, so that planes of networks can be compared.

Li et al. (2018, "Visualizing the loss landscape of neural nets", section 4) scale filter by
filter; the others are the methods of the paper's section 2.2.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from lla.errors import InputError
from lla.parameters import ParameterSpace

Method = Literal["weight", "filter", "layer", "model"]
METHODS: tuple[Method, ...] = get_args(Method)


def normalize(
    direction: Tensor,
    theta: Tensor,
    space: ParameterSpace,
    method: Method | None,
    order: int = 2,
    signed: bool = False,
) -> Tensor:
    """A direction scaled relative to the weights; a part is zero if either of the norms is zero.

    Args:
        direction: [P].
        theta: the weights [P].
        space: names and shapes of the elements of both.
        method: None leaves the direction as it is. "weight" multiplies it with the weights
            elementwise. "filter" gives each slice along the first dimension of a tensor of two or
            more dimensions, and each 1-D tensor as a whole, the norm of the weights there.
            "layer" does so for each tensor, "model" for the whole vector.
        order: of the norm, 1 or 2.
        signed: take sums in place of L1 norms, as the authors' public code does (`legacy`).

    Returns:
        A new vector [P].

    Raises:
        InputError: an unknown method or order, signed with order 2, or a vector of another length
            or with elements that are not finite.

    >>> space = ParameterSpace.of(torch.nn.Linear(2, 2, bias=False))
    >>> theta, direction = torch.tensor([3.0, 4.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 1.0, 1.0])
    >>> normalize(direction, theta, space, "filter")
    tensor([0., 5., 0., 0.])
    """
    if method is not None and method not in METHODS:
        raise InputError(f"normalization is {method!r}: choose one of {', '.join(METHODS)} or None")
    if order not in (1, 2):
        raise InputError(f"the order of the norm is {order}: choose 1 or 2")
    if signed and order != 1:
        raise InputError("signed sums stand for L1 norms only: give order=1 with signed=True")
    check_direction(direction, space)
    if method is None:
        return direction.clone()
    if method == "weight":
        return direction * theta
    whole = _ratio(theta[None], direction[None], order, signed) if method == "model" else None
    scaled = torch.empty_like(direction)
    for _, shape, place in space:
        by_filter = method == "filter" and len(shape) >= 2
        rows = (shape[0], -1) if by_filter else (1, -1)
        part, weights = direction[place].view(rows), theta[place].view(rows)
        ratio = _ratio(weights, part, order, signed) if whole is None else whole
        scaled[place] = (part * ratio).reshape(-1)  # in float64: the ratio may be above float32's
    return scaled


def check_direction(direction: Tensor, space: ParameterSpace) -> None:
    """Raise unless a vector is a direction in the space of the parameters."""
    if direction.ndim != 1 or len(direction) != space.size:
        raise InputError(
            f"a direction has shape {tuple(direction.shape)}, the model {space.size} parameters: "
            "give one flat vector for the same model"
        )
    if not bool(torch.isfinite(direction).all()):
        raise InputError("a direction holds NaN or infinite elements: check where it comes from")


def _ratio(weights: Tensor, part: Tensor, order: int, signed: bool) -> Tensor:
    """Norm of the weights over that of the direction, 0 where one is 0, [rows, 1] float64."""
    # in float64 the squares of a tiny row do not underflow
    above, below = (
        rows.sum(1, dtype=torch.float64)
        if signed
        else torch.linalg.vector_norm(rows, order, dim=1, dtype=torch.float64)
        for rows in (weights, part)
    )
    return torch.where(below == 0, 0.0, above / torch.where(below == 0, 1.0, below))[:, None]
