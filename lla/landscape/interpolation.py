"""The loss on the straight line between two checkpoints."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lla.arguments import real_number, whole_number
from lla.errors import InputError
from lla.landscape.flat_weights import Weights, check_finite, flat_weights, state_dict_of
from lla.landscape.loss_plane import loss_plane
from lla.landscape.plane import Plane
from lla.problem import Problem, check_is_problem

_MOST_STEPS = 10_000


def interpolate(
    problem: Problem, other: Weights, *, steps: int = 40, beyond: float = 0.25, **options: Any
) -> Plane:
    """The loss on the line theta + a (theta' - theta) from these weights to others.

    At a = 0 it is the problem's loss, at a = 1 that of the other weights. Floating-point buffers,
    such as BatchNorm's statistics, go along if a model, a state dict or a file says what they
    become; along a flat vector they stay. (Goodfellow, Vinyals and Saxe 2015.)

    Args:
        problem: network, loss and data, with the first weights.
        other: the other weights: a model of the same architecture, its state dict, a file of one
            (`torch.save`, safetensors), or a flat vector [P].
        steps: from one to the other; both ends are points.
        beyond: how far the line goes on at each end, as a share of the way.
        **options: of `lla.loss_plane`: `recalibrate`, `scalars`, `route`, `checkpoint`, `part`,
            `progress`. With a `checkpoint`, Ctrl-C keeps the points that are finished.

    Returns:
        A line; its `a` is the share of the way.

    Raises:
        InputError: weights of another architecture, equal to these, or not finite; steps or beyond
            out of range; another option.
        MissingDataError, ChecksumError: the file is not there, or damaged.

    >>> one, two = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    >>> batch = torch.ones(4, 2), torch.arange(4) % 3
    >>> line = interpolate(Problem(one, batch), two, steps=4, beyond=0)
    >>> line.a.tolist(), abs(line.loss[-1] - Problem(two, batch).loss().item()) < 1e-6
    ([0.0, 0.25, 0.5, 0.75, 1.0], np.True_)
    """
    check_is_problem(problem, "lla.landscape.interpolate(lla.Problem(model, batches), other)")
    steps = whole_number("steps", steps, 1, _MOST_STEPS)
    share = real_number("beyond", beyond)
    if not 0 <= share <= 10:
        raise InputError(f"beyond is {beyond}: give a number from 0 to 10")
    wrong = sorted(set(options) & {"axes", "normalization", "coordinates", "distance", "freeze"})
    if wrong:
        raise InputError(f"interpolate has no option {wrong[0]}: leave it out")
    more = round(share * steps)
    along = (np.arange(-more, steps + more + 1) / steps).tolist()
    towards: Tensor | nn.Module
    if isinstance(other, Tensor):
        (vector,) = flat_weights([other], problem)
        towards = vector.to(problem.theta()) - problem.theta()
    elif isinstance(other, nn.Module):
        towards = other
    else:
        towards = _with_weights(problem.model, other)
    (vector,) = flat_weights([other if isinstance(other, Tensor) else towards], problem)
    check_finite(vector, "the other weights")
    line = loss_plane(problem, [towards], normalization=None, coordinates=(along,), **options)
    return dataclasses.replace(line, axes="interpolation")


def _with_weights(model: nn.Module, weights: Any) -> nn.Module:
    """A copy of a model with the weights of a state dict or of a file."""
    where = "the state dict" if isinstance(weights, Mapping) else str(weights)
    state = weights if isinstance(weights, Mapping) else state_dict_of(weights)
    try:
        other = copy.deepcopy(model)
    except Exception as error:  # modules have __deepcopy__ of their own
        raise InputError(
            f"{type(model).__name__} cannot be copied ({error}): give the other weights as a model"
        ) from error
    try:
        with torch.no_grad():
            found = other.load_state_dict(dict(state), strict=False)
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"{where} does not fit {type(model).__name__} ({' '.join(str(error).split())}): give "
            "weights of the same architecture"
        ) from error
    # old files lack BatchNorm's counters, of which nothing depends
    lacks = [name for name in found.missing_keys if not name.endswith("num_batches_tracked")]
    if lacks or found.unexpected_keys:
        name = (*lacks, *found.unexpected_keys)[0]
        raise InputError(
            f"{where} {'lacks' if lacks else 'has besides'} {name}: give weights of the same "
            "architecture"
        )
    return other
