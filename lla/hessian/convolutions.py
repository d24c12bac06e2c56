"""The weight gradient of a convolution over one channel, as a product of matrices.

For one input channel oneDNN takes four times as long for it as for the convolution itself: more
than a quarter of LeNet's product. In a linearised product that input is a constant, so its patches
are too: cut out once, they leave a product of matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def one_channel_patches(args: Sequence[Any], x: Tensor | None) -> Tensor | None:
    """The patches that a weight gradient multiplies with; None where this is no such gradient.

    Args:
        args: of `convolution_backward`, as they are recorded.
        x: the input of the convolution [N, 1, H, W] if it is a constant, else None.

    Returns:
        Patches [N, positions, kernel elements] for `weight_gradient`.
    """
    weight, _, stride, padding, dilation, transposed, _, groups, wanted = args[2:]
    if list(wanted) != [False, True, False] or transposed or groups != 1:
        return None
    if x is None or x.ndim != 4 or x.shape[1] != 1 or x.device.type != "cpu":
        return None
    kernel = weight.meta["shape"][2:]
    return F.unfold(x, kernel, dilation, padding, stride).transpose(1, 2).contiguous()


def weight_gradient(g: Tensor, patches: Tensor, kernel: Sequence[int]) -> Tensor:
    """The weight gradient [C, 1, *kernel] of a convolution over one channel.

    Args:
        g: derivative of the loss by its output [N, C, H', W'].
        patches: of its input [N, H' W', kernel elements].
        kernel: height and width.
    """
    return torch.bmm(g.flatten(2), patches).sum(0).unflatten(1, (1, *kernel))
