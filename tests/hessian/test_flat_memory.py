"""Memory stays the same, however many spectra and planes a process computes."""

import gc
import linecache
import os
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lla

LONG = 2000  # repeats where the environment variable LLA_LONG is set
ALLOCATED = 25  # blocks of Python's memory a repeat
ONCE = 100  # blocks with which caches of the process still fill up


def small_lenet():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip


def small_resnet():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip


MODELS = {"lenet": small_lenet, "resnet": small_resnet}


def spectrum(model, batches, route):
    problem = lla.Problem(model, batches, loss=F.cross_entropy, check=False)
    operator = lla.HessianOperator(problem, route=route)
    lla.spectral_density(operator, probes=1, steps=2, seed=0)


def plane(model, batches, axes):
    problem = lla.Problem(model, batches, loss=F.cross_entropy, check=False)
    lla.loss_plane(problem, axes, steps=2)


def criteria(model, batches, _):
    lla.criteria(model, batches, loss=F.cross_entropy, probes=1, steps=2)


COMPUTED = {
    "linearized": (spectrum, "linearized"),
    "retained": (spectrum, "retained"),
    "fresh": (spectrum, "fresh"),
    "chosen route": (spectrum, None),
    "criteria": (criteria, None),
    "random plane": (plane, "random"),
    "hessian plane": (plane, "hessian"),
}
BUDGET = {"linearized": 60, "retained": 20, "fresh": 20}  # repeats


def blocks():
    """Blocks of Python's memory in use."""
    gc.collect()
    return sys.getallocatedblocks()


def resident():
    """Bytes in memory; None where the system does not say."""
    statm = Path("/proc/self/statm")
    return (
        int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else None
    )


def growth(compute, repeats):
    """Blocks of Python's memory and resident bytes that are more after `repeats` calls."""
    for _ in range(max(3, repeats // 10)):  # what is loaded and cached once
        compute()
    before, bytes_before = blocks(), resident()
    for _ in range(repeats):
        compute()
    more = blocks() - before
    return more, None if bytes_before is None else resident() - bytes_before


def prepared(name, computed):
    function, argument = COMPUTED[computed]
    batch, model = (torch.randn(2, 1, 10, 10), torch.tensor([0, 2])), MODELS[name]()
    return lambda: function(model, batch, argument)


@pytest.mark.hard_use("Spectra, criteria and planes, repeated on every route, leave nothing behind")
@pytest.mark.parametrize("computed", COMPUTED)
def test_repeats_leave_nothing_in_memory(computed):
    repeats, compute = BUDGET.get(computed, 4), prepared("resnet", computed)
    compute()
    lines = len(linecache.cache)
    more, _ = growth(compute, repeats)
    assert len(linecache.cache) == lines
    assert more < ALLOCATED * repeats + ONCE


@pytest.mark.timeout(4 * 3600)
@pytest.mark.skipif(not os.environ.get("LLA_LONG"), reason="a long run: set LLA_LONG to have it")
@pytest.mark.hard_use("2,000 spectra of one model on every route: the memory in use stays the same")
@pytest.mark.parametrize("route", ["linearized", "retained", "fresh"])
@pytest.mark.parametrize("name", MODELS)
def test_2000_spectra_in_flat_memory(name, route, record_property):
    compute = prepared(name, route)
    more, more_bytes = growth(compute, LONG)
    said = "" if more_bytes is None else f", {more_bytes / 2**20:.1f} MiB more in memory"
    record_property("measured", f"{LONG} spectra of a small {name}, {route}: {more} blocks{said}")
    assert more < LONG // 4
    assert more_bytes is None or more_bytes < 16 * 2**20
