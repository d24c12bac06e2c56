"""The states of all random generators that other people's code may draw from."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class RandomStates:
    """Python's `random`, NumPy's and torch's global generators, and others that are named.

    Args:
        device: of the model; its generator is included where it is not the CPU's.
        generators: further generators, for example a loader's own.
    """

    device: torch.device = torch.device("cpu")  # noqa: RUF009 - immutable
    generators: tuple[torch.Generator, ...] = ()

    def read(self) -> tuple[Any, ...]:
        """The present states, for `write`."""
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return (
            random.getstate(),
            np.random.get_state(legacy=False),  # noqa: NPY002 - other people's code draws from it
            torch.get_rng_state(),
            cuda,
            tuple(each.get_state() for each in self.generators),
        )

    def write(self, states: tuple[Any, ...]) -> None:
        """Set all generators to states that `read` gave."""
        python, numpy, cpu, cuda, own = states
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, self.device)
        for each, state in zip(self.generators, own, strict=True):
            each.set_state(state)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Whatever is drawn within, all states are the same afterwards.

        >>> with RandomStates().kept():
        ...     first = torch.rand(()), random.random()
        >>> (torch.rand(()), random.random()) == first
        True
        """
        before = self.read()
        try:
            yield
        finally:
            self.write(before)


def loader_generators(loader: Any) -> tuple[torch.Generator, ...]:
    """The generators that a `DataLoader` and its samplers hold."""
    sampler, batch_sampler = (getattr(loader, name, None) for name in ("sampler", "batch_sampler"))
    owners = (loader, sampler, batch_sampler, getattr(batch_sampler, "sampler", None))
    found = (getattr(owner, "generator", None) for owner in owners)
    own = {id(each): each for each in found if isinstance(each, torch.Generator)}
    return tuple(own.values())
