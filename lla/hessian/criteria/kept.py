"""Spectra of finished batches in a folder, from which an interrupted measurement goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lla.hessian.memory.batch_hessians import BatchHessians
from lla.hessian.products.routes import RouteName
from lla.hessian.spectrum import Spectrum
from lla.problem import Problem
from lla.ranks import ALONE, Ranks
from lla.storage import save_result
from lla.unfinished import check_checkpoint, fingerprint, read_unfinished


@dataclass(frozen=True)
class Made:
    """How the products of a spectrum were made.

    Attributes:
        route: by which.
        plan: how they fitted into memory.
        at_once: examples that a product took at a time.
    """

    route: RouteName
    plan: str
    at_once: int

    @classmethod
    def by(cls, hessians: BatchHessians) -> Made:
        """From what has just made some."""
        return cls(hessians.route, hessians.plan, hessians.at_once)


@dataclass(frozen=True)
class _Kept:
    """The content of a file; files have the name of this class in them."""

    spectrum: Spectrum
    route: RouteName
    plan: str
    at_once: int
    fingerprint: str


class KeptSpectra:
    """The spectra of a measurement, each in a file of its own once it is finished.

    Args:
        folder: of the files; None keeps nothing.
        facts: what determines the spectra beside weights and batches, in words.
        ranks: processes that share each spectrum, of which the first one reads and writes; one
            alone where each has batches of its own.

    Raises:
        InputError: there is no such folder.
        WriteError: nothing can be written there.
    """

    def __init__(self, folder: Path | None, facts: str, ranks: Ranks = ALONE) -> None:
        self._folder, self._facts, self._ranks = folder, facts, ranks
        if folder is not None:
            with ranks.agreed():
                check_checkpoint(folder / "batch")

    def spectrum(
        self, stream: int, problem: Problem, compute: Callable[[], tuple[Spectrum, Made]]
    ) -> tuple[Spectrum, Made]:
        """The spectrum of a batch: read if it is finished, else computed and written.

        Args:
            stream: number of the batch.
            problem: of the batch.
            compute: the spectrum.

        Raises:
            InputError: the file is of another measurement.
            ChecksumError, WriteError: it cannot be read or written.
        """
        if self._folder is None:
            return compute()
        path = self._folder / f"spectrum-of-batch-{stream}.npz"
        own = [batch_hash.hex() for batch_hash in problem.own_batches.hashes()]
        data = problem.of_all_batches(own)
        known = fingerprint(problem.state(), repr(data), self._facts)
        kept: _Kept | None = None
        with self._ranks.agreed():
            if self._ranks.rank == 0 and path.exists():
                holds = ("this batch", "the spectrum of another measurement")
                kept = read_unfinished(_Kept, path, known, holds, _nothing_wrong)
        kept = self._ranks.of(0, kept)
        if kept is not None:
            return kept.spectrum, Made(kept.route, kept.plan, kept.at_once)
        found, made = compute()
        if self._ranks.rank == 0:
            save_result(_Kept(found, made.route, made.plan, made.at_once, known), path)
        return found, made


def _nothing_wrong(found: _Kept) -> Iterator[str]:
    """A spectrum has checked itself."""
    yield from ()
