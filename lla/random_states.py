"""The states of all random generators that other people's code may draw from."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from lla.process_wide import CALLS


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

    def are(self, states: tuple[Any, ...]) -> bool:
        """Whether all generators have the states that `read` gave."""
        python, *others = self.read()
        pairs = zip(pytree.tree_leaves(others), pytree.tree_leaves([*states[1:]]), strict=True)
        return python == states[0] and all(np.array_equal(one, other) for one, other in pairs)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Whatever is drawn within, all states are the same afterwards; other threads wait.

        >>> with RandomStates().kept():
        ...     first = torch.rand(()), random.random()
        >>> (torch.rand(()), random.random()) == first
        True
        """
        with CALLS:  # two threads that put back each other's states would leave others
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


def stream_of(value: Any) -> tuple[Callable[[], Any], Callable[[Any], Any]] | None:
    """The functions that get and set the state of a random generator; None for anything else."""
    if isinstance(value, torch.Generator):
        return value.get_state, value.set_state
    if isinstance(value, np.random.Generator):
        bits = value.bit_generator
        return lambda: copy.deepcopy(bits.state), lambda state: setattr(bits, "state", state)
    if isinstance(value, np.random.RandomState):
        return value.get_state, value.set_state
    if isinstance(value, random.Random):
        return value.getstate, value.setstate
    return None
