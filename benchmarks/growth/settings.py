"""What is varied: perceptrons of growing width, and the budget of a spectrum."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from benchmarks.problems import Pairs

INPUTS = 64
CLASSES = 10


@dataclass(frozen=True)
class Setting:
    """A network, its batches, and the budget of a spectrum."""

    width: int = 768  # of both hidden layers
    batch: int = 64  # examples a batch
    steps: int = 16  # m, Lanczos steps
    probes: int = 1
    batches: int = 1
    ranks: int = 1  # processes that share the batches

    @property
    def parameters(self) -> int:
        """The number of parameters P.

        >>> Setting(width=2).parameters  # weights and biases, layer by layer
        166
        """
        weights = self.width * (INPUTS + self.width + CLASSES)
        return weights + 2 * self.width + CLASSES

    def network(self) -> nn.Module:
        """The perceptron at initialisation."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return nn.Sequential(
                nn.Linear(INPUTS, self.width), nn.ReLU(),
                nn.Linear(self.width, self.width), nn.ReLU(),
                nn.Linear(self.width, CLASSES),
            )  # fmt: skip

    def pairs(self) -> Pairs:
        """The batches: noise with random targets."""
        draw = torch.Generator().manual_seed(0)
        return [
            (
                torch.rand(self.batch, INPUTS, generator=draw),
                torch.randint(CLASSES, (self.batch,), generator=draw),
            )
            for _ in range(self.batches)
        ]


@dataclass(frozen=True)
class Axis:
    """What grows, and which call is timed along it."""

    name: str
    field: str  # of `Setting`
    call: str = "spectrum"  # or "criteria", which takes one batch after another


PARAMETERS = Axis("parameters P", "width")
BATCH = Axis("examples of a batch", "batch")
STEPS = Axis("Lanczos steps m", "steps")
PROBES = Axis("probes", "probes")
BATCHES = Axis("batches, each apart", "batches", "criteria")
POOLED = Axis("batches, pooled", "batches")
RANKS = Axis("processes", "ranks")


@dataclass(frozen=True)
class GrowthCase:
    """One axis with the points at which it is measured."""

    axis: Axis
    points: tuple[int, ...]  # values of the axis' field, ascending
    base: Setting = Setting()  # all other fields
    rounds: int = 5

    def __str__(self) -> str:
        return self.axis.name

    @property
    def settings(self) -> list[Setting]:
        """The setting at each point."""
        return [replace(self.base, **{self.axis.field: point}) for point in self.points]

    @property
    def sizes(self) -> list[int]:
        """What the exponent is with respect to, at each point: P in place of the width."""
        if self.axis == PARAMETERS:
            return [setting.parameters for setting in self.settings]
        return list(self.points)
