"""This library and others at equal work, each in a process of its own, and which are right."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import reference
from benchmarks.peers import libraries, records
from benchmarks.peers.judgement import judge
from benchmarks.peers.libraries import ADAPTERS, Adapter, EqualWork
from benchmarks.peers.view import EXHIBIT, library

# speed is promised for 512 pictures of LeNet, 64 of ResNet20 and 8 of ResNet18; this case checks
# how a library combines two batches
_TWO = EqualWork("lenet", (1, 32, 32), 128, 2, steps=100, probes=1)


def _small(probes: int) -> list[EqualWork]:
    return [
        EqualWork("lenet", (1, 32, 32), 512, 1, steps=100, probes=probes),
        EqualWork("resnet20", (3, 32, 32), 64, 1, steps=100, probes=probes),
    ]


CASES = {
    "tiny": [EqualWork("lenet", (1, 32, 32), 8, 1, steps=20, probes=1)],
    "quick": [*_small(1), _TWO],
    # one probe of ResNet18: its preparations are a small part of even a hundred products
    "paper": [*_small(10), EqualWork("resnet18", (3, 224, 224), 8, 1, steps=100, probes=1), _TWO],
}


def rounds(size: str, case: EqualWork) -> int:
    """The number of repetitions: several, for an error bar, if one takes only seconds."""
    return 3 if size == "paper" and case == _TWO else 1


@functools.lru_cache(maxsize=1)  # libraries on one case run one after another
def exact(case: EqualWork) -> tuple[reference.Product, np.ndarray]:
    """Products with the Hessian in float64, and its largest eigenvalues."""
    product, count = reference.products(*case.make(torch.float64))
    return product, reference.largest(product, count)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)
def test_spectrum_at_equal_work(
    adapter: Adapter, case: EqualWork, size: str, peak: Any, save: Any
) -> None:
    """Seconds, products, memory and error of one library; ours has to be right."""
    if failure := adapter.missing():
        save(EXHIBIT, records.not_run(adapter, case, failure), library)
        pytest.skip(failure)
    try:
        found = [peak(libraries.measure, adapter.name, case) for _ in range(rounds(size, case))]
    except Exception as error:
        failure = records.in_words(error)
        save(EXHIBIT, records.not_run(adapter, case, failure), library)
        if adapter.name == "lla":
            raise
        pytest.xfail(failure)
    product, top = exact(case)
    quadrature = found[0].result.quadrature
    judged = judge(quadrature, top, reference.moments(product, quadrature.start))
    save(EXHIBIT, records.library_records(adapter, case, found, judged), library)
    assert quadrature.products == case.steps * case.probes
    if adapter.name == "lla" and size != "tiny":
        assert judged.correct, judged.reason
