"""Convolutions over one constant channel as products of matrices.

For one input channel oneDNN takes four times as long for the weight gradient as for the
convolution itself: more than a quarter of LeNet's product. In a linearised product the input is a
constant, and so are its patches. Once they are extracted, a product of matrices is left. If a
max-pooling follows, it selects the same positions for every vector, and only the patches at these
positions are needed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def patches_of(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Patches [N, positions, kernel elements] of a batch of one channel [N, 1, H, W]."""
    cut = F.unfold(x, tuple(kernel), tuple(dilation), tuple(padding), tuple(stride))
    return cut.transpose(1, 2).contiguous()


def weight_gradient(g: Tensor, patches: Tensor, kernel: Sequence[int]) -> Tensor:
    """The weight gradient [C, 1, *kernel] of a convolution over one channel.

    Args:
        g: derivative of the loss by its output [N, C, H', W'].
        patches: of its input [N, H' W', kernel elements].
        kernel: height and width.
    """
    return torch.bmm(g.flatten(2), patches).sum(0).unflatten(1, (1, *kernel))


def selected_patches(
    x: Tensor,
    index: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """The patches at the selected positions of each output channel.

    Args:
        x: a batch of one channel [N, 1, H, W].
        index: of positions in the output, row by row [N, C, Q].
        kernel: height and width; the next three likewise.
        stride: of the convolution.
        padding: of its input.
        dilation: of its kernel.

    Returns:
        [C, kernel elements, N, Q], a layout that both products read in order.
    """
    # directly from the pictures: all patches together would be the peak of memory
    padded = F.pad(x[:, 0], (padding[1], padding[1], padding[0], padding[0]))
    width, reach = padded.shape[2], dilation[1] * (kernel[1] - 1)
    across = (width - reach - 1) // stride[1] + 1  # positions in a row of the output
    corner = index // across * (stride[0] * width) + index % across * stride[1]
    pixels, corner = padded.flatten(1), corner.flatten(1)
    selected = x.new_empty(index.shape[1], math.prod(kernel), len(x), index.shape[2])
    for element, (i, j) in enumerate(itertools.product(*map(range, kernel))):
        offset = i * dilation[0] * width + j * dilation[1]
        values = pixels.gather(1, corner + offset)
        selected[:, element] = values.view_as(index).transpose(0, 1)
    return selected


def selected_convolution(weight: Tensor, bias: Tensor | None, selected: Tensor) -> Tensor:
    """A convolution over one channel at the selected positions [N, C, Q].

    Args:
        weight: [C, 1, height, width].
        bias: [C], or None.
        selected: patches [C, kernel elements, N, Q].
    """
    rows, columns = weight.flatten(1)[:, None], selected.flatten(2)
    if bias is None:
        out = torch.bmm(rows, columns)
    else:
        out = torch.baddbmm(bias[:, None, None], rows, columns)
    return out[:, 0].unflatten(1, selected.shape[2:]).transpose(0, 1)


def selected_weight_gradient(g: Tensor, selected: Tensor, kernel: Sequence[int]) -> Tensor:
    """The weight gradient [C, 1, *kernel] of `selected_convolution`.

    Args:
        g: derivative of the loss by its output [N, C, ...], Q values a channel.
        selected: patches [C, kernel elements, N, Q].
        kernel: height and width.
    """
    rows = g.flatten(2).transpose(0, 1).flatten(1)[:, None]
    return torch.bmm(rows, selected.flatten(2).transpose(1, 2)).unflatten(2, tuple(kernel))
