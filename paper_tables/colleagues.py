"""Workers on this machine beside the session that starts them: `--workers N`, or `auto`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from lla.errors import InputError
from lla.files import writing
from lla.free_memory import available_memory
from paper_tables.engine import store
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.shard import Shard

MOST = 4  # workers that `auto` takes
PROCESS = 2**30  # bytes: what a worker takes beside its cells
THREADS = "OMP_NUM_THREADS"
AUTO = "auto"


def number(asked: str, cells: Sequence[Cell], settings: Settings) -> int:
    """How many workers a session has, itself included.

    Small networks are faster with one thread each in several processes than with all threads in
    one. `auto` takes one worker for each CPU, `MOST` at most, and fewer if the largest cells that
    are left would not fit into the free memory side by side; on a GPU it takes one.

    Args:
        asked: a number, or `auto`.
        cells: of the session.
        settings: of the session.

    Raises:
        InputError: more than one is asked for where each would compute all cells.
    """
    if asked != AUTO:
        if int(asked) > 1 and settings.recompute:
            raise InputError(
                "with --recompute each worker would compute all cells: leave it or --workers out, "
                "or name a new --work-dir"
            )
        return int(asked)
    device = torch.device(settings.device)
    if device.type != "cpu" or settings.recompute:
        return 1
    left = [c for c in cells if c.compute is not None and store.finished(c, settings.work) is None]
    sizes = sorted((cell.memory + PROCESS for cell in left), reverse=True)
    most, free = min(MOST, _cores(), len(left)), available_memory(device)
    return max([1, *(n for n in range(2, most + 1) if sum(sizes[:n]) <= free)])


@contextlib.contextmanager
def beside(
    count: int, arguments: Sequence[str], folder: Path, settings: Settings
) -> Iterator[list[str]]:
    """Start workers 2 to `count`, and wait for them; they end at once if the block raises.

    The CPUs are divided among all workers, unless the environment says how many threads to take.

    Args:
        count: of all workers; this process is the first.
        arguments: of pytest, as this session has them.
        folder: where pytest was started.
        settings: of the session.

    Yields:
        A list, which afterwards has a sentence on each worker that failed.
    """
    logs = settings.work / "workers"
    with writing(logs):
        logs.mkdir(parents=True, exist_ok=True)
    own = ["-p", "no:cacheprovider", "--workers", "1", "--parent", str(os.getpid())]
    threads = max(1, _cores() // count)
    environment = {THREADS: str(threads), **os.environ}
    if THREADS not in os.environ:
        torch.set_num_threads(threads)
    failures: list[str] = []
    with contextlib.ExitStack() as stack:
        started = []
        for shard in (Shard(i, count) for i in range(2, count + 1)):
            log = logs / f"{shard.index}.log"
            process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *arguments, *own,
                 "--shard", f"{shard.index}/{shard.count}"],
                cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                stdout=stack.enter_context(log.open("wb")), stderr=subprocess.STDOUT,
            )  # fmt: skip
            stack.callback(_end, process)
            started.append((shard, log, process))
        yield failures
        for shard, log, process in started:
            if code := process.wait():
                failures.append(
                    f"worker {shard.index} of {shard.count} ended with code {code}: see {log}"
                )


def is_left(parent: int | None) -> bool:
    """Whether the session that started this worker, by its process, is there no longer."""
    return parent is not None and os.getppid() != parent


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a worker that still runs; whoever computes next takes its cell over."""
    if process.poll() is None:
        process.terminate()
        process.wait()


def _cores() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
