"""Leases: what one of several workers has in hand, so that no other one computes it too.

A lease is a file in the folder of results. The worker that holds it touches it every `HEARTBEAT`
seconds. Another one takes it over at once if the process of its holder has ended on the same
machine, and from another machine once it has seen no touch for `LEASE` seconds. A worker that is
killed between making a file and writing its name leaves it empty; others remove it after
`UNWRITTEN` seconds.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import SoftFileLease, Timeout

from lla.errors import InputError
from lla.files import atomic_write, writing
from paper_tables.engine.shard import Shard

LEASE = 120.0  # seconds
HEARTBEAT = 20.0  # seconds
RECENT = 7 * 24 * 3600.0  # seconds: older traces are of an earlier run
UNWRITTEN = 15.0  # seconds: nobody takes as long to write a name into a file
POLL = 1.0  # seconds between two looks at a lease that is waited for
FOLDER = "leases"
SUFFIX = ".lease"


class Leases:
    """The leases of the workers that share one folder of results.

    Args:
        results: the folder.
    """

    def __init__(self, results: Path) -> None:
        self.results = results
        self.folder = results / FOLDER
        # kept, because each remembers since when its file has not been touched
        self._known: dict[str, SoftFileLease] = {}
        self._empty: dict[Path, tuple[int, float]] = {}  # inode, and since when it was seen

    @contextlib.contextmanager
    def held(self, what: str, wait: bool = False) -> Iterator[bool]:
        """Hold a lease for the time of a block.

        Args:
            what: name of the lease, fit for a file.
            wait: until its holder gives it back or is found dead.

        Yields:
            Whether it is held; with `wait` always true.

        Raises:
            WriteError: the folder cannot be written.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lease = self._lease(what)
            while not (mine := self._acquired(lease)) and wait:
                time.sleep(POLL)
        try:
            yield mine
        finally:
            if mine:
                lease.release()

    @contextlib.contextmanager
    def worker(self, shard: Shard) -> Iterator[None]:
        """Be one of several workers for the time of a block.

        Args:
            shard: which one.

        Raises:
            InputError: another process is this worker, and alive.
            WriteError: the folder cannot be written.
        """
        name = _name(shard)
        with self.held(name) as mine:
            if not mine:
                raise InputError(
                    f"worker {shard.index} of {shard.count} is at work in {self.results} already "
                    f"({self._holder(name)}): give another --shard, or wait until it ends"
                )
            atomic_write(self._trace(shard), "")
            yield

    def unseen(self, count: int) -> list[Shard]:
        """Which of so many workers have not begun in this folder within `RECENT` seconds."""
        now = time.time()
        all_of_them = (Shard(i, count) for i in range(1, count + 1))
        return [shard for shard in all_of_them if now - _time_of(self._trace(shard)) > RECENT]

    def note_failure(self, what: str, why: str) -> None:
        """Tell the other workers that a computation has failed."""
        atomic_write(self._failed(what), why)

    def failure(self, what: str, shard: Shard) -> str | None:
        """Why a computation has failed at another worker since this one began; None if none has.

        Args:
            what: its name.
            shard: this worker.
        """
        begun = self._trace(shard).stat().st_mtime_ns
        with contextlib.suppress(FileNotFoundError):
            if self._failed(what).stat().st_mtime_ns > begun:
                return self._failed(what).read_text(encoding="utf-8")
        return None

    def mark(self, name: str, work: Path) -> None:
        """Leave a mark in both folders, by which workers elsewhere see that these are theirs.

        Args:
            name: of the mark.
            work: the work folder, which all workers share too.
        """
        for path in self._marks(name, work):
            atomic_write(path, "")

    def is_marked(self, name: str, work: Path) -> bool:
        """Whether a mark is in both folders, see `mark`."""
        return all(path.exists() for path in self._marks(name, work))

    def at_work(self) -> list[str]:
        """The workers that are alive in this folder, each in a few words."""
        found = []
        for path in sorted(self.folder.glob(f"worker-*{SUFFIX}")):
            with self.held(path.stem) as free:
                if not free:
                    words = path.stem.replace("-", " ")
                    found.append(f"{words} ({self._holder(path.stem)})")
        return found

    def _acquired(self, lease: SoftFileLease) -> bool:
        """Take a lease if nobody holds it."""
        self._remove_unwritten(Path(lease.lock_file))
        try:
            lease.acquire(timeout=0)
        except Timeout:
            return False
        return True

    def _remove_unwritten(self, path: Path) -> None:
        """Remove a lease without a holder's name that has been there for `UNWRITTEN` seconds."""
        with contextlib.suppress(FileNotFoundError):
            found = path.stat()
            inode, since = self._empty.get(path, (0, 0.0))
            if found.st_size or inode != found.st_ino:
                self._empty[path] = found.st_ino, time.monotonic()
                return
            if time.monotonic() - since < UNWRITTEN:
                return
            # one worker alone moves it away; what has been written meanwhile is put back
            aside = path.with_name(f"{path.name}.{os.getpid()}.unwritten")
            path.rename(aside)
            if aside.stat().st_size or aside.stat().st_ino != inode:
                with contextlib.suppress(FileExistsError):
                    os.link(aside, path)
            aside.unlink()

    def _lease(self, what: str) -> SoftFileLease:
        if what not in self._known:
            self._known[what] = SoftFileLease(
                self.folder / f"{what}{SUFFIX}", lease_duration=LEASE, heartbeat_interval=HEARTBEAT
            )
        return self._known[what]

    def _holder(self, what: str) -> str:
        owner = self._lease(what).owner
        return f"process {owner.pid} on {owner.hostname}" if owner else "just now"

    def _trace(self, shard: Shard) -> Path:
        return self.folder / f"{_name(shard)}.begun"

    def _marks(self, name: str, work: Path) -> tuple[Path, Path]:
        file = f"{name}.submitted"
        return self.folder / file, work / FOLDER / file

    def _failed(self, what: str) -> Path:
        return self.folder / f"{what}.failed"


def _time_of(path: Path) -> float:
    """When a file was written; 0 without one."""
    return path.stat().st_mtime if path.exists() else 0.0


def _name(shard: Shard) -> str:
    return f"worker-{shard.index}-of-{shard.count}"
