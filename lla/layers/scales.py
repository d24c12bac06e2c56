"""Standard deviations of the inputs of layers, by which inputs may be divided."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lla.errors import InputError
from lla.layers.calls import called
from lla.layers.patches import groups_of, is_covered
from lla.problem import Problem


def input_scales(problem: Problem, names: Sequence[str]) -> dict[str, Tensor]:
    """The standard deviation of each element of a layer's patches, over examples and positions.

    Elements of a patch that lie in one channel have the channel's. Where it is zero but for
    rounding, 1 is taken.

    Args:
        problem: network and data.
        names: of layers.

    Returns:
        By layer, float64 [G, d]: groups of filters, and elements of a patch.

    Raises:
        InputError: a layer is no linear or convolution layer that is called once, or a channel of
            its input has a single value.
    """
    sums: dict[str, Tensor] = {}
    for batch in problem.batches:
        with called(problem, batch, names) as (_, calls):
            for name, call in calls.items():
                if not is_covered(call.layer) or call.calls != 1 or call.x is None:
                    raise InputError(
                        f"normalize_inputs needs the input of {name}, which is no linear or "
                        "convolution layer that is called once: leave it out of layers"
                    )
                x = call.x.detach().double()
                axis = x.ndim - 1 if isinstance(call.layer, nn.Linear) else 1
                rows = x.movedim(axis, 0).flatten(1)  # [channels, values]
                # shifted, so that a large mean costs no digits
                mean = rows.mean(1)
                part = torch.stack(
                    [torch.full_like(mean, rows.shape[1]), mean, rows.var(1, correction=0)]
                )
                sums[name] = part if name not in sums else _together(sums[name], part)
    for name, (count, _, _) in sums.items():
        if count[0] < 2:
            raise InputError(
                f"the input of {name} has one value in each channel, which has no standard "
                "deviation: give more examples, or leave normalize_inputs out"
            )
    return {
        name: _of_patch(problem.model.get_submodule(name), part[1], part[2], problem.dtype)
        for name, part in sums.items()
    }


def _together(one: Tensor, other: Tensor) -> Tensor:
    """Number, mean and variance [3, channels] of two sets of values."""
    n = one[0] + other[0]
    apart = other[1] - one[1]
    mean = one[1] + apart * other[0] / n
    within = (one[0] * one[2] + other[0] * other[2]) / n
    return torch.stack([n, mean, within + one[0] * other[0] / n**2 * apart**2])


def _of_patch(layer: nn.Module, mean: Tensor, variance: Tensor, dtype: torch.dtype) -> Tensor:
    """Standard deviations [G, d] of the elements of a patch, from those of channels."""
    rounding = 10 * torch.finfo(dtype).eps * (mean.square() + variance).sqrt()
    deviations = variance.sqrt()
    deviations = torch.where(deviations > rounding, deviations, torch.ones_like(deviations))
    if isinstance(layer, nn.Linear):
        return deviations[None]
    kernel = torch.Size(layer.kernel_size).numel()  # type: ignore[arg-type]
    return deviations.reshape(groups_of(layer), -1).repeat_interleave(kernel, dim=1)
