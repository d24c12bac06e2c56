"""Run a function in a process of its own, so that its peak memory includes nothing else."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

import lla
from benchmarks.problems import device
from paper_tables.engine.machine import peak_memory, reset_peak_memory

T = TypeVar("T")


@dataclass(frozen=True)
class Peak(Generic[T]):
    """What a function returned, and the peak memory while it ran."""

    result: T
    bytes: int  # of the process, or on CUDA of what torch allocated
    added: int  # the part that was not held before


def isolated(function: Callable[..., T], *arguments: Any, tuned: bool = True) -> Peak[T]:
    """Call a function in a fresh process with as many threads as this one has.

    Args:
        function: one that a module names; it is imported there, not copied.
        arguments: what it takes; they are pickled, as its result is.
        tuned: whether the process tunes its allocator, see `lla.tune_allocator`.

    Raises:
        Exception: whatever the function raises.
        BrokenProcessPool: the process died, for example for lack of memory.
    """
    # not forked: a copy of this process would start with its memory
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        threads = torch.get_num_threads()
        return pool.submit(_prepared, threads, tuned, function, *arguments).result()


def _prepared(threads: int, tuned: bool, function: Callable[..., T], *arguments: Any) -> Peak[T]:
    torch.set_num_threads(threads)
    if tuned:
        lla.tune_allocator()
    return measured(function, *arguments)


def measured(function: Callable[..., T], *arguments: Any) -> Peak[T]:
    """Call a function in this process and measure its peak memory."""
    reset_peak_memory(device())
    before = peak_memory(device())
    result = function(*arguments)
    after = peak_memory(device())
    return Peak(result, after, after - before)
