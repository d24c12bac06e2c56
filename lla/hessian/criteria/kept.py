"""Spectra of finished batches in a folder, from which an interrupted measurement goes on.

A file says by a hash which weights, batch and settings it is of. That leaves out what a hash cannot
see: the loss function, a penalty, the architecture. So one product is made before a spectrum is
taken from a file. It must have the first two moments of the first probe's nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lla.errors import InputError
from lla.hessian.memory.batch_hessians import BatchHessians
from lla.hessian.operator import HessianOperator
from lla.hessian.products.routes import RouteName
from lla.hessian.spectrum import Spectrum
from lla.parameters import Pattern
from lla.precision import ROUNDING
from lla.probes import rademacher
from lla.problem import Problem
from lla.ranks import ALONE, Ranks
from lla.storage import save_result
from lla.unfinished import check_checkpoint, fingerprint, read_shared


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
    made: Made
    fingerprint: str


class KeptSpectra:
    """The spectra of a measurement, each in a file of its own once it is finished.

    Args:
        folder: of the files; None keeps nothing.
        facts: what determines the spectra beside weights and batches, in words.
        parameters: see `lla.HessianOperator`.
        ranks: processes that share each spectrum, of which the first one reads and writes; one
            alone where each has batches of its own.

    Raises:
        InputError: there is no such folder.
        WriteError: nothing can be written there.
    """

    def __init__(
        self,
        folder: Path | None,
        facts: str,
        parameters: Pattern | Sequence[Pattern] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self._folder, self._ranks, self._parameters = folder, ranks, parameters
        self._facts = facts
        if folder is None:
            return
        with ranks.agreed():
            if not folder.is_dir():
                raise InputError(f"the checkpoint folder {folder} does not exist: make it first")
        check_checkpoint(folder / "batch", ranks)

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
        data = problem.of_all_batches(own), problem.of_all_batches(problem.shares)
        moving = [(name, shape) for name, shape, _ in problem.space.select(self._parameters)]
        known = fingerprint(problem.state(), repr(data), repr(moving), self._facts)
        holds = ("this batch", "the spectrum of another measurement")
        kept = read_shared(_Kept, path, known, holds, ranks=self._ranks)
        if kept is not None:
            self._check(stream, problem, kept, path)
            return kept.spectrum, kept.made
        found, made = compute()
        if self._ranks.rank == 0:
            save_result(_Kept(found, made, known), path)
        return found, made

    def _check(self, stream: int, problem: Problem, kept: _Kept, path: Path) -> None:
        """Compare a product with the first probe with the spectrum.

        Raises:
            InputError: they are of different Hessians.
        """
        if kept.made.at_once < max(problem.batch_sizes):
            problem = problem.in_micro_batches(kept.made.at_once, check=False)
        H = HessianOperator(problem, self._parameters, route="fresh", products=1)
        probe = rademacher(H.shape[0], H.theta, kept.spectrum.seed, stream, 0)
        product = H @ probe
        found = [float(probe @ product), float(product @ product)]
        nodes = slice(None, int(kept.spectrum.counts[0]))
        values, weights = kept.spectrum.eigenvalues[0, nodes], kept.spectrum.weights[0, nodes]
        expected = [float(weights @ values**k) * len(probe) for k in (1, 2)]
        scales = [math.sqrt(expected[1] * len(probe)), expected[1]]
        near = 10 * ROUNDING[H.dtype]
        # a single step, and the imitated public code, have the first moment only
        known = 1 if kept.spectrum.legacy or len(values) < 2 else 2
        pairs = list(zip(found, expected, scales, strict=True))[:known]
        if any(abs(one - other) > near * scale for one, other, scale in pairs):
            raise InputError(
                f"{path} holds the spectrum of another Hessian, such as that of another loss: "
                "remove it, or take another checkpoint"
            )
