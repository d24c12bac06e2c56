"""One spectrum at one setting: its seconds, and the speeds of the machine beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

import lla
from benchmarks.communication.prediction import NUMBER
from benchmarks.growth.prediction import ROUTE, Speeds
from benchmarks.growth.settings import Setting
from benchmarks.problems import Pairs
from benchmarks.timing import in_turn, timed
from lla.probes import rademacher

ROWS, NUMBERS = 64, 2**20  # of the block that is read: 256 MiB, which no cache holds
REPEATS = 5
NEXT_TO_NOTHING = Setting(width=1, batch=1, steps=16)


@dataclass(frozen=True)
class Observation:
    """What one call took, in seconds."""

    run: float  # of all products and Lanczos steps
    setup: float  # before them; 0 where it is not apart
    cpu: float  # of the run, by all threads of the process

    @property
    def whole(self) -> float:
        """Set-up and run."""
        return self.setup + self.run


def spectrum(setting: Setting, model: nn.Module, pairs: Pairs) -> Observation:
    """Time `lla.HessianOperator`, then `lla.spectral_density`, on all batches together.

    Args:
        setting: the budget.
        model: the network.
        pairs: its batches.
    """
    make = partial(lla.HessianOperator, route=ROUTE, products=setting.probes * setting.steps)
    H, setup = timed(lambda: make(lla.Problem(model, pairs)))
    run = partial(lla.spectral_density, H, probes=setting.probes, steps=setting.steps)
    return _timed(run, setup)


def criteria(setting: Setting, model: nn.Module, pairs: Pairs) -> Observation:
    """Time the whole of `lla.criteria`, which takes one batch after another.

    Args:
        setting: the budget.
        model: the network.
        pairs: its batches.
    """
    run = partial(lla.criteria, model, pairs, probes=setting.probes, steps=setting.steps)
    return _timed(partial(run, route=ROUTE), 0.0)


CALLS = {"spectrum": spectrum, "criteria": criteria}


def _timed(run: Callable[[], object], setup: float) -> Observation:
    before = time.process_time()
    _, seconds = timed(run)
    return Observation(seconds, setup, time.process_time() - before)


def speeds(setting: Setting, device: str) -> Speeds:
    """The speeds of the prediction, without a link.

    Args:
        setting: gives the sizes of the matrices.
        device: where to compute.
    """
    width = setting.width
    x, weights = (torch.rand(rows, width, device=device) for rows in (setting.batch, width))
    block, vector = (torch.rand(*shape, device=device) for shape in ((ROWS, NUMBERS), (NUMBERS,)))
    model, pairs = NEXT_TO_NOTHING.network().to(device), on(device, NEXT_TO_NOTHING.pairs())
    H = lla.HessianOperator(lla.Problem(model, pairs), route=ROUTE)
    rows = rademacher(H.shape[0], H.theta, 0)[None]
    functions: tuple[Callable[[], object], ...] = (
        lambda: x @ weights,
        lambda: block @ vector,
        lambda: H.rows(rows),
        lambda: lla.spectral_density(H, probes=1, steps=NEXT_TO_NOTHING.steps),
    )
    medians = np.median(in_turn(functions, REPEATS, warmup=1), axis=0)
    multiplying, reading, product, spectrum = (float(each) for each in medians)
    return Speeds(
        flops=2 * setting.batch * width**2 / multiplying,
        memory=NUMBER * ROWS * NUMBERS / reading,
        product=product,
        step=max(0.0, spectrum / NEXT_TO_NOTHING.steps - product),
    )


def on(device: str, pairs: Pairs) -> Pairs:
    """The batches on a device."""
    return [(x.to(device), y.to(device)) for x, y in pairs]
