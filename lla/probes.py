"""Random start and probe vectors, the same on every device for the same seed."""

from __future__ import annotations

import torch
from torch import Tensor

from lla.seeding import generator


def rademacher(size: int, like: Tensor, *seeds: int) -> Tensor:
    """A vector [size] of +1 and -1 with equal probability, of the type and device of `like`."""
    bits = torch.randint(0, 2, (size,), generator=generator(*seeds), dtype=torch.int8, device="cpu")
    return (2 * bits - 1).to(like)


def gaussian(size: int, like: Tensor, *seeds: int) -> Tensor:
    """A vector [size] of standard normal numbers, of the type and device of `like`."""
    return torch.randn(size, generator=generator(*seeds), dtype=torch.float64, device="cpu").to(
        like
    )


def uniform(size: int, like: Tensor, *seeds: int) -> Tensor:
    """A vector [size] of numbers uniform in [0, 1), of the type and device of `like`."""
    return torch.rand(size, generator=generator(*seeds), dtype=torch.float64, device="cpu").to(like)
