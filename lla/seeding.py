"""Random streams from seeds, apart from the global random state."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from lla.errors import InputError
from lla.random_states import RandomStates


def stream_seed(*seeds: int) -> int:
    """The seed of the stream that belongs to several numbers, such as (seed, epoch, use).

    Raises:
        InputError: a number is negative.
    """
    if min(seeds) < 0:
        raise InputError(f"the seed {min(seeds)} is negative: choose 0 or more")
    state = np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0]
    return int(state >> np.uint64(1))


def generator(*seeds: int) -> torch.Generator:
    """A separate CPU generator for every (seed, index, ...), so probe 7 is the same of 10 or of 20.

    >>> bool(torch.equal(torch.rand(2, generator=generator(0, 1)),
    ...                  torch.rand(2, generator=generator(0, 1))))
    True
    """
    return torch.Generator().manual_seed(stream_seed(*seeds))


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seed torch's, NumPy's and Python's global generators; their states are restored afterwards.

    Of torch's, those of the CPU and of one device.
    """
    with RandomStates(device).kept():
        # torch.manual_seed would also seed devices whose state is not restored
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - models draw from it
        yield
