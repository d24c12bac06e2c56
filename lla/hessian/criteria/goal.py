"""The goal of a measurement with a target, and what it reached."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from lla.errors import InputError
from lla.hessian.accuracy import Over
from lla.hessian.ratios import Reading

Scope = Literal["batches", "pooled"]  # whose Hessian: of each batch, or of all together
Stopped = Literal["targets", "batches", "probes", "budget"]


def check_scope(scope: str) -> None:
    """Raise an error for an unknown scope."""
    if scope not in ("batches", "pooled"):
        raise InputError(f"scope is {scope!r}: choose 'batches' or 'pooled'")


@dataclass(frozen=True)
class Goal:
    """The goal of a measurement with a target."""

    targets: Mapping[str, float]  # criterion -> standard error relative to its value
    over: Over
    probes: int  # at most, for each batch
    steps: int  # of a whole Lanczos run
    max_matvecs: int
    seed: int
    reading: Reading

    @property
    def whole_runs(self) -> bool:
        """Whether every run needs all its steps."""
        return "kh05" in self.targets

    @property
    def wants_kh1(self) -> bool:
        """Whether K_H1 is asked for."""
        return "kh1" in self.targets

    @property
    def deflates(self) -> bool:
        """Whether K_H1 may be averaged over outliers, which takes a second probe to check them."""
        return self.wants_kh1 and self.probes > 1

    @property
    def re_tolerance(self) -> float:
        """The relative error that a converged r_e may have; inf without a target for r_e."""
        return self.targets["re"] / 2 if "re" in self.targets else math.inf


@dataclass(frozen=True)
class Accuracy:
    """How accurate a measured criterion is, and what limits its accuracy."""

    target: float | None  # standard error asked for, relative to the value; None if none was
    reached: float  # standard error, relative to the value; inf if it is not known
    interval: tuple[float, float]  # 95 %, by Student's t; infinite if it is not known
    probes: float | None  # the probes' part of the standard error; None for one probe a batch
    batches: float | None  # the part left with exact values on each batch; None over probes
    compared: float  # what is compared with the target: `reached`, enlarged for few samples
    shortfall: str | None  # why the target is not met, to follow "its standard error is"

    NOT_FINITE: ClassVar[tuple[str, ...]] = ("reached", "interval", "compared")  # in files


@dataclass(frozen=True)
class Adaptive:
    """How a measurement with a target went."""

    stopped: Stopped  # why it ended: targets met, or batches, probes or products used up
    accuracy: dict[str, Accuracy]  # of each criterion that was measured
    probes: tuple[int, ...]  # of each batch
    averaged: tuple[int, int]  # most outliers above and below zero that K_H1 is averaged over

    @property
    def converged(self) -> bool:
        """Whether all targets were met."""
        return self.stopped == "targets"

    def shortcoming(self, matvecs: int) -> str:
        """Which target was missed, by how much, and what would help, as one sentence."""
        missed = {
            name: found.compared / found.target
            for name, found in self.accuracy.items()
            if found.target is not None and found.shortfall is not None
        }
        name = max(missed, key=missed.__getitem__)
        help = {
            "budget": "raise max_matvecs",
            "probes": "raise probes",
            "batches": "further probes cannot reduce the difference between the batches, so give "
            "more batches, or over='probes' if these are all there are",
        }  # fmt: skip
        return (
            f"after {matvecs} products on {len(self.probes)} batches the standard error of {name} "
            f"is {self.accuracy[name].shortfall}: {help[self.stopped]}"
        )
