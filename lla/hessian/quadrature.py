"""Stochastic Lanczos quadrature: nodes and weights from random probes."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal

from lla.errors import InputError
from lla.hessian.lanczos.legacy import legacy_tridiagonal
from lla.hessian.lanczos.process import Lanczos
from lla.hessian.memory.plans import Plan
from lla.hessian.spectrum import Spectrum
from lla.hessian.symmetric import SymmetricOperator
from lla.probes import rademacher
from lla.progress_bars import tqdm


def clamped(steps: int, size: int) -> int:
    """The number of Lanczos steps, reduced to the number of parameters with a warning."""
    if steps > size:
        warnings.warn(
            f"steps={steps} exceeds the {size} parameters: {size} steps are taken", stacklevel=3
        )
    return min(steps, size)


def quadrature(
    operator: SymmetricOperator,
    plan: Plan,
    probes: int,
    steps: int,
    seed: int,
    *,
    legacy: bool,
    stream: int,
    together: int = 1,
    first: int = 0,
    progress: bool,
) -> Spectrum:
    """The spectrum under a given plan, without a check of the memory.

    The arguments are those of `spectral_density`; `plan` says how the Lanczos vectors are stored,
    and `first` is the index of the first probe.

    Raises:
        InputError: see `spectral_density`.
        NonFiniteError: a product is not finite.
        MemoryError, RuntimeError: out of memory.
    """
    if legacy and not (plan.basis_dtype is None and plan.basis_device is None):
        raise InputError(
            "legacy keeps eleven Lanczos vectors and no basis: leave basis_dtype and basis_device "
            "out"
        )
    size, before, like = operator.shape[0], operator.matvecs, operator.like
    parts = []
    with tqdm(total=probes * steps, desc="Lanczos", unit="product", disable=not progress) as bar:
        width, end = 1 if legacy else together, first + probes
        for begin in range(first, end, width):
            indices = range(begin, min(begin + width, end))
            start = torch.stack([rademacher(size, like, seed, stream, i) for i in indices])
            if legacy:
                parts.append(legacy_tridiagonal(operator, start[0], steps, seed, bar.update))
                continue
            lanczos = Lanczos(
                operator, start, steps, plan.basis_dtype, plan.basis_device, operator.ranks
            )
            for _ in range(steps):
                lanczos.advance(1)
                bar.update(len(indices))
            parts.append(lanczos.tridiagonal())
    runs = []
    for part in parts:
        for alphas, betas, n in zip(part.alphas, part.betas, part.counts, strict=True):
            values, vectors = eigh_tridiagonal(alphas[:n], betas[: n - 1])
            with np.errstate(under="ignore"):  # a weight that is too small is 0
                runs.append((values, vectors[0] ** 2))
    return Spectrum.of(
        runs,
        steps,
        size=size,
        seed=seed,
        dtype=str(operator.dtype).removeprefix("torch."),
        legacy=legacy,
        matvecs=operator.matvecs - before,
        about=operator.about,
    )
