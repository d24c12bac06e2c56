"""Losses with prescribed radii: squares of the weights, and functions of them."""

import torch
from torch import nn

import lla


class Bowl(nn.Module):
    """sum_i lambda_i (w_i - w0_i)^2 for one filter w [1, n] with ||w0|| = 1, at its minimum."""

    def __init__(self, curvature):
        super().__init__()
        n = len(curvature)
        start = torch.ones(1, n, dtype=torch.float64) / n**0.5
        self.weight = nn.Parameter(start.clone())
        self.register_buffer("start", start)
        self.register_buffer("curvature", curvature)

    def forward(self, x):
        square = ((self.weight - self.start) ** 2 * self.curvature).sum()
        return square.expand(len(x))


def bowl(curvature, profile=lambda square: square):
    """A problem with the loss profile(sum_i lambda_i (w_i - w0_i)^2)."""
    curvature = torch.as_tensor(curvature, dtype=torch.float64)
    batch = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    return lla.Problem(Bowl(curvature), batch, loss=lambda output, y: profile(output.mean()))
