"""The inputs of a linear or convolution layer as patches, and gradients by its weight from them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def is_covered(layer: nn.Module) -> bool:
    """Whether a layer multiplies patches of its input by its weight: linear, or a convolution."""
    convolution = isinstance(layer, _ConvNd) and not isinstance(layer, _ConvTransposeNd)
    return isinstance(layer, nn.Linear) or convolution


def applied(layer: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What a plain layer of this kind gives, whatever the module's own forward does.

    Args:
        layer: one that `is_covered`.
        x: its input, with the examples first.
        weight: in place of the module's.
        bias: in place of the module's.
    """
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, bias)
    assert isinstance(layer, _ConvNd)
    convolve = _CONVOLUTIONS[weight.ndim - 2]
    return convolve(_padded(layer, x), weight, bias, layer.stride, 0, layer.dilation, layer.groups)


def patches(layer: nn.Module, x: Tensor) -> Tensor:
    """The patches of an input that the filters of a layer are multiplied with.

    Output f at position q is `weight[f] . patch[q] + bias[f]`, with the patch of f's group.

    Args:
        layer: one that `is_covered`.
        x: its input, with the examples first.

    Returns:
        [n, G, d, Q]: d elements of a patch, Q positions, G groups of filters.

    >>> layer, x = nn.Conv2d(2, 3, 3, padding=1, bias=False), torch.rand(4, 2, 5, 5)
    >>> found = patches(layer, x)
    >>> found.shape
    torch.Size([4, 1, 18, 25])
    >>> bool(torch.allclose(layer(x).flatten(2), layer.weight.flatten(1) @ found[:, 0], atol=1e-6))
    True
    """
    if isinstance(layer, nn.Linear):
        return x.reshape(len(x), 1, -1, x.shape[-1]).transpose(2, 3)
    assert isinstance(layer, _ConvNd)
    x = _padded(layer, x)
    kernel, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    steps = list(zip(x.shape[2:], kernel, stride, dilation, strict=True))
    positions = [(size - gap * (k - 1) - 1) // step + 1 for size, k, step, gap in steps]
    along = x.stride()[2:]
    windows = x.as_strided(
        (*x.shape[:2], *kernel, *positions),
        (*x.stride()[:2], *(s * gap for s, gap in zip(along, dilation, strict=True)),
         *(s * step for s, step in zip(along, stride, strict=True))),
        x.storage_offset(),
    )  # fmt: skip
    return windows.reshape(len(x), layer.groups, -1, torch.Size(positions).numel())


def _padded(layer: _ConvNd, x: Tensor) -> Tensor:
    """The input of a convolution with its padding around it."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)


def groups_of(layer: nn.Module) -> int:
    """The number G of groups of a layer's filters."""
    return layer.groups if isinstance(layer, _ConvNd) else 1


def by_position(layer: nn.Module, output: Tensor) -> Tensor:
    """An output of a layer, or a gradient by it, as [n, G, F / G, Q]."""
    if isinstance(layer, nn.Linear):
        return output.reshape(len(output), 1, -1, output.shape[-1]).transpose(2, 3)
    groups = groups_of(layer)
    return output.reshape(len(output), groups, output.shape[1] // groups, -1)


def example_gradients(deltas: Tensor, found: Tensor) -> Tensor:
    """Gradients by the weight of a layer, one an example.

    Args:
        deltas: gradients by its output [n, G, F / G, Q].
        found: its patches [n, G, d, Q].

    Returns:
        [n, F, d].
    """
    return (deltas @ found.transpose(2, 3)).flatten(1, 2)
