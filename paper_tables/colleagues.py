"""Workers on this machine beside the session that starts them: `--workers N`, or `auto`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from lla.files import writing
from lla.free_memory import available_memory
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.leases import POLL

MOST = 4  # workers that `auto` takes
PROCESS = 2**30  # bytes: what a worker takes beside its cells
THREADS = "OMP_NUM_THREADS"
AUTO = "auto"


def number(asked: str, cells: Sequence[Cell], device: torch.device) -> int:
    """How many workers a session has, itself included; no more than cells to compute.

    Small networks are faster with one thread each in several processes than with all threads in
    one. `auto` takes one worker for each CPU, `MOST` at most, and fewer if the largest cells
    would not fit into the free memory side by side; on a GPU it takes one.

    Args:
        asked: a number, or `auto`.
        cells: that are to be computed.
        device: where.
    """
    if asked != AUTO:
        return min(int(asked), max(1, len(cells)))
    if device.type != "cpu":
        return 1
    sizes = sorted((cell.memory + PROCESS for cell in cells), reverse=True)
    most, free = min(MOST, cores(), len(cells)), available_memory(device)
    return max([1, *(n for n in range(2, most + 1) if sum(sizes[:n]) <= free)])


@dataclass
class Colleagues:
    """The other workers of a session: their processes, and what is to be said of their ends."""

    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)

    def failed(self) -> bool:
        """Whether one has failed; of one that was killed, others take the cells over."""
        return any((process.poll() or 0) > 0 for process in self.processes)


@contextlib.contextmanager
def beside(
    count: int, arguments: Sequence[str], folder: Path, settings: Settings, cached: bool
) -> Iterator[Colleagues]:
    """Start workers 2 to `count`, and wait for them; they end at once if the block raises.

    The CPUs are divided among all workers, unless the environment says how many threads to take.

    Args:
        count: of all workers; this process is the first.
        arguments: of pytest, as this session has them.
        folder: where pytest was started.
        settings: of the session.
        cached: whether pytest keeps a cache; each worker then has its own.

    Raises:
        WriteError: their output cannot be written.
    """
    threads = max(1, cores() // count)
    environment = {THREADS: str(threads), **os.environ}
    if THREADS not in os.environ:
        torch.set_num_threads(threads)
    logs = settings.work / "workers"
    with writing(logs):
        logs.mkdir(parents=True, exist_ok=True)
    found = Colleagues()
    with contextlib.ExitStack() as stack:
        for index in range(2, count + 1):
            own = ["--workers", "1", "--shard", f"{index}/{count}", "--parent", str(os.getpid())]
            if cached:
                own += ["-o", f"cache_dir={(logs / f'cache-{index}').resolve()}"]
            log = _log(logs, index)
            with writing(log):
                process = subprocess.Popen(
                    [sys.executable, "-m", "pytest", *arguments, *own],
                    cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                    stdout=stack.enter_context(log.open("wb")), stderr=subprocess.STDOUT,
                )  # fmt: skip
            stack.callback(_end, process)
            # until somebody has waited for a process that was killed, it counts as alive
            threading.Thread(target=process.wait, daemon=True).start()
            found.processes.append(process)
        yield found
        for index, process in enumerate(found.processes, 2):
            if code := process.wait():
                found.sentences.append(
                    f"worker {index} of {count} ended with code {code}: see {_log(logs, index)}"
                )


def end_with(parent: int) -> None:
    """End this process when the one that started it has ended; the store bears that at any time.

    Args:
        parent: the process that started it.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _log(logs: Path, index: int) -> Path:
    return logs / f"{index}.log"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a worker that still runs; whoever computes next takes its cell over."""
    if process.poll() is None:
        process.terminate()
        process.wait()


def cores() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
