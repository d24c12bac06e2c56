"""Spectra over several processes of one thread, joined by gloo, beside the same in one process."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as distributed
import torch.multiprocessing

import lla
from benchmarks.communication.prediction import reduced
from benchmarks.growth.observation import REPEATS, Observation, spectrum, speeds
from benchmarks.growth.prediction import Speeds
from benchmarks.growth.settings import Setting
from benchmarks.timing import in_turn

Found = list[list[tuple[Observation, Speeds]]]  # by round, then by setting


def measure(settings: Sequence[Setting], rounds: int, tuned: bool) -> Found:
    """Time spectra at settings that differ in the number of processes, all of them in turn.

    Args:
        settings: with the same network and batches, in float32 on the CPU.
        rounds: repetitions.
        tuned: whether the processes tune their allocator.

    Returns:
        Seconds of the slowest process, CPU seconds of all together, and the speeds of one while all
        are at work, with the bytes/s of a sum over them in `link`.
    """
    count = max(setting.ranks for setting in settings)
    # processes that a setting does not need wait here and take no time of a CPU
    meeting = torch.multiprocessing.get_context("spawn").Barrier(count)
    with tempfile.TemporaryDirectory() as folder:
        arguments = (tuple(settings), rounds, tuned, meeting, Path(folder))
        torch.multiprocessing.spawn(_rank, arguments, count)
        ranks = [torch.load(Path(folder) / f"{i}.pt", weights_only=False) for i in range(count)]
    return [
        [
            _together([ranks[i][turn][k] for i in range(setting.ranks)])
            for k, setting in enumerate(settings)
        ]
        for turn in range(rounds)
    ]


def _together(parts: Sequence[tuple[Observation, Speeds]]) -> tuple[Observation, Speeds]:
    """What several processes took together."""
    observations, speeds_of = zip(*parts, strict=True)
    run, setup = (max(getattr(o, name) for o in observations) for name in ("run", "setup"))
    return Observation(run, setup, sum(o.cpu for o in observations)), speeds_of[0]


def _rank(
    rank: int,
    settings: Sequence[Setting],
    rounds: int,
    tuned: bool,
    meeting: threading.Barrier,
    folder: Path,
) -> None:
    torch.set_num_threads(1)
    if tuned:
        lla.tune_allocator()
    found = []
    for turn in range(-1, rounds):  # the first warms up
        here = []
        for k, setting in enumerate(settings):
            meeting.wait()
            place = folder / f"meeting {turn} {k}"
            here.append(_joined(rank, setting, place) if rank < setting.ranks else None)
            meeting.wait()
        if turn >= 0:
            found.append(here)
    torch.save(found, folder / f"{rank}.pt")


def _joined(rank: int, setting: Setting, place: Path) -> tuple[Observation, Speeds]:
    """One spectrum of several processes, which a group joins for this alone."""
    model, pairs = setting.network(), setting.pairs()
    if setting.ranks == 1:
        return spectrum(setting, model, pairs), speeds(setting, "cpu")
    distributed.init_process_group(
        "gloo", init_method=f"file://{place}", rank=rank, world_size=setting.ranks
    )
    numbers = torch.zeros(setting.parameters)
    sums = in_turn([lambda: distributed.all_reduce(numbers)], REPEATS, warmup=1)
    link = reduced(setting.parameters, setting.ranks) / float(sorted(sums[:, 0])[REPEATS // 2])
    distributed.barrier()
    with lla.alone():
        mine = replace(speeds(setting, "cpu"), link=link)
    distributed.barrier()
    observation = spectrum(setting, model, pairs)
    distributed.barrier()
    distributed.destroy_process_group()
    return observation, mine
