"""Seconds of a spectrum, by counting: operations of matrices, numbers that are moved, bytes sent.

Each of probes x m steps makes one product for each batch and then the new vector. A product takes
the FLOPs that `benchmarks.cost_model` counts; it moves some vectors of P numbers, and some numbers
for each example. The new vector is made orthogonal to the j before it: a pass reads each of them
twice, so that m steps read m (m + 1) vectors of P numbers. On a GPU there are always two passes; on
a CPU a second one is made only where the first removed a visible part. Processes share the batches
and the stored vectors, and send what `benchmarks.communication` counts.

Speeds that are measured beside the spectra turn counts into seconds. What is left out: the set-up,
vectors that stay in a cache, and matrices that are slower than those of the reference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from benchmarks.communication.prediction import NUMBER, gathered, reduced
from benchmarks.cost_model.measurement import predict
from benchmarks.growth.settings import CLASSES, INPUTS, Setting
from lla.hessian.products.routes import RouteName

ROUTE: RouteName = "retained"  # named, so that no point takes another one than the others

# Vectors of P numbers that are read or written, counted in the operations of a perceptron.
PRODUCT = 15  # weights read four times, both terms and their sum, put together and copied
SUMMED = 3  # the product of one batch among several is added to those before it
STEP = 20  # store, alpha, the three-term recurrence, norms, division
PASS = 3  # of orthogonalisation, beside the stored vectors
ACTIVATIONS = 59  # numbers that a product moves for each example and hidden unit of a layer


@dataclass(frozen=True)
class Speeds:
    """What a machine reaches.

    Attributes:
        flops: FLOP/s of a product of matrices.
        memory: bytes/s of reading a block that no cache holds.
        product: seconds of a product that computes next to nothing.
        step: seconds of a Lanczos step that computes next to nothing, without its product.
        link: bytes/s that a process sends in a sum over processes.
    """

    flops: float
    memory: float
    product: float = 0.0
    step: float = 0.0
    link: float = math.inf


def flops(setting: Setting) -> int:
    """FLOPs of a product with the Hessian of one batch.

    >>> flops(Setting(width=1, batch=1))  # 4 for each of 64 weights, 12 for each of 11
    388
    """
    forward, first = (
        2 * setting.batch * setting.width * partners
        for partners in (INPUTS + setting.width + CLASSES, INPUTS)
    )
    return predict(forward, 3 * forward - first)[ROUTE]


def seconds(setting: Setting, speeds: Speeds, passes: int = 1, apart: bool = False) -> float:
    """Seconds of a spectrum of all batches, without its set-up.

    Args:
        setting: network and budget.
        speeds: of the machine.
        passes: of orthogonalisation that a step makes.
        apart: whether each batch has a spectrum of its own.
    """
    if apart:
        return setting.batches * seconds(replace(setting, batches=1), speeds, passes)
    s, vector = setting, NUMBER * setting.parameters  # bytes
    products = s.probes * s.steps
    own = s.batches / s.ranks  # batches of a process
    each = vector * (PRODUCT + (SUMMED if s.batches > 1 else 0))
    each += NUMBER * ACTIVATIONS * s.batch * s.width
    computed = flops(s) / speeds.flops + each / speeds.memory + speeds.product
    stored = s.probes * s.steps * (s.steps + 1)
    reading = products * STEP + passes * (stored + products * PASS) / s.ranks
    sent = products * (reduced(s.parameters, s.ranks) + gathered(s.parameters, s.ranks))
    return (
        products * (own * computed + speeds.step)
        + reading * vector / speeds.memory
        + sent / speeds.link
    )
