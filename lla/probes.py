"""Random start and probe vectors, the same on every device for the same seed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lla.errors import InputError


def generator(*seeds: int) -> torch.Generator:
    """A CPU generator of its own for every (seed, index, ...): probe 7 is the same among 10 or 20.

    >>> bool(torch.equal(torch.rand(2, generator=generator(0, 1)),
    ...                  torch.rand(2, generator=generator(0, 1))))
    True
    """
    if min(seeds) < 0:
        raise InputError(f"the seed {min(seeds)} is negative: choose 0 or more")
    state = np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


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
