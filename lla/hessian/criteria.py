"""The criteria r_e, K_H1 and K_H05 of a Hessian spectrum (arXiv:2412.10146, Section 3)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lla.errors import InputError
from lla.estimate import Estimate
from lla.hessian.operator import HessianOperator
from lla.hessian.plans import (
    Plan,
    attempt,
    bytes_an_example,
    cost_of,
    describe,
    plans,
    room_to_keep,
)
from lla.hessian.routes import RouteName, available_memory, check_route
from lla.hessian.spectrum import Spectrum, clamped, quadrature
from lla.parameters import Pattern
from lla.problem import Loss, Mode, Problem

Reading = Literal["product", "density"]


@dataclass(frozen=True)
class ProbeCriteria:
    """The criteria of every probe of one spectrum; ratios, not yet averaged."""

    re: np.ndarray  # [probes]
    kh1: np.ndarray  # [probes]
    kh05: np.ndarray  # [probes]
    negative_share: np.ndarray  # [probes], of sum |lambda| w


@dataclass(frozen=True)
class Criteria:
    """The criteria of a model on its batches, with standard errors and what they rest on."""

    re: Estimate  # max(0, -lambda_min) / lambda_max
    kh1: Estimate  # sum_{l<0} |l| w / sum_{l>0} l w
    kh05: Estimate  # the same with the terms to the power 1/2
    negative_share: Estimate  # sum_{l<0} |l| w / sum |l| w
    spectra: tuple[Spectrum, ...]  # one a batch, or one of all batches pooled
    scope: Literal["batches", "pooled"]
    stderr_kind: Literal["batches", "probes"]
    reading: Reading
    legacy: bool
    probes: int
    steps: int
    batches: int
    dtype: str
    route: str  # of the Hessian products
    plan: str  # how they were made, and what ran out of memory before, see `lla.hessian.plans`
    loss: float  # mean over all examples
    matvecs: int  # products of one batch, all batches and probes

    def reread(self, reading: Reading) -> Criteria:
        """The criteria in another reading, from the same spectra."""
        names = ("scope", "batches", "route", "plan", "loss")
        facts = {name: getattr(self, name) for name in names}
        return _average(self.spectra, reading=reading, **facts)


def spectrum_criteria(spectrum: Spectrum, reading: Reading = "product") -> ProbeCriteria:
    """The criteria of every probe of a spectrum.

    Nodes within rounding of zero (|lambda| <= eps max |lambda|) belong to neither side, except in
    a legacy spectrum, where every sign counts.

    Args:
        spectrum: nodes and weights.
        reading: "product" applies the power to |lambda| w, as the paper does; the result then
            depends on the number of steps. "density" applies it to |lambda| alone, which
            converges to a functional of the spectral density. For K_H1 they are the same.

    Raises:
        InputError: an unknown reading, or a probe without a positive eigenvalue.
    """
    _check_reading(reading)
    eps = 0.0 if spectrum.legacy else float(np.finfo(spectrum.dtype).eps)
    rows = [
        _one_probe(spectrum.eigenvalues[i, :n], spectrum.weights[i, :n], eps, reading)
        for i, n in enumerate(spectrum.counts)
    ]
    return ProbeCriteria(*np.array(rows).T)


def _check_reading(reading: str) -> None:
    if reading not in ("product", "density"):
        raise InputError(f"reading is {reading!r}: choose 'product' or 'density'")


def _one_probe(
    values: np.ndarray, weights: np.ndarray, eps: float, reading: Reading
) -> tuple[float, float, float, float]:
    """r_e, K_H1, K_H05 and the negative share of the nodes [count] of one probe."""
    largest = np.abs(values).max()
    positive, negative = values > eps * largest, values < -eps * largest
    if not positive.any():
        raise InputError(
            f"no eigenvalue is positive (the largest of {len(values)} is {values.max():.3g}), so "
            "the ratios are not defined: is this a maximum, or the loss's sign reversed?"
        )

    def side(chosen: np.ndarray, power: float) -> float:
        magnitude, weight = np.abs(values[chosen]), weights[chosen]
        if reading == "product":
            return float(((magnitude * weight) ** power).sum())
        return float((magnitude**power * weight).sum())

    lower, upper = side(negative, 1.0), side(positive, 1.0)
    if not upper > 0:
        raise InputError(
            "the positive eigenvalues have no weight, so the ratios are not defined: take another "
            "seed"
        )
    return (
        max(0.0, -float(values[negative | positive].min())) / float(values.max()),
        lower / upper,
        side(negative, 0.5) / side(positive, 0.5),
        lower / (lower + upper),
    )


def criteria(
    model: nn.Module,
    batches: Any,
    mode: Mode = "eval",
    probes: int = 10,
    steps: int = 100,
    seed: int = 0,
    *,
    loss: Loss = F.cross_entropy,
    reading: Reading = "product",
    legacy: bool = False,
    scope: Literal["batches", "pooled"] = "batches",
    parameters: Pattern | Sequence[Pattern] | None = None,
    route: RouteName | None = None,
    micro_batch: int | None = None,
    basis_dtype: torch.dtype | None = None,
    basis_device: torch.device | str | None = None,
    memory: int | None = None,
    progress: bool = False,
) -> Criteria:
    """The criteria r_e, K_H1 and K_H05 of a model.

    Each batch has a Hessian and a spectrum of its own. The ratios are averaged over its probes,
    then over the batches. With two batches or more the standard error is that of the batch means;
    with one it is the noise of the probes alone.

    Args:
        model: any module.
        batches: see `lla.Problem`.
        mode: see `lla.Problem`.
        probes: random start vectors a batch (the paper's n_hes).
        steps: Lanczos steps (m).
        seed: of the probes, and of dropout's mask in train mode.
        loss: see `lla.Problem`.
        reading: see `spectrum_criteria`.
        legacy: imitate the authors' public code, see `lla.hessian.legacy`.
        scope: "pooled" takes the Hessian of all batches together instead.
        parameters: see `lla.HessianOperator`.
        route: see `lla.HessianOperator`.
        micro_batch: examples that a product takes at a time, see `lla.Problem.in_micro_batches`;
            the Hessian is that of the whole batch, in less memory. Not in train mode.
        basis_dtype: see `lla.spectral_density`.
        basis_device: see `lla.spectral_density`.
        memory: bytes to take on the model's device, what is available by default. What should not
            fit is made by a leaner plan than asked for, `lla.hessian.plans`; so is what runs out of
            memory. Without it, a plan that names route and micro_batch is tried whatever it needs.
        progress: show a progress bar for each batch.

    Raises:
        InputError: see `lla.Problem`, `lla.Problem.in_micro_batches`, `lla.spectral_density` and
            `spectrum_criteria`.
        NonFiniteError: a loss or a product is not finite.
        InsufficientMemoryError: it fits into memory by no plan.

    >>> import torch
    >>> model = torch.nn.Linear(2, 3)
    >>> crit = criteria(model, (torch.rand(8, 2), torch.arange(8) % 3), probes=4, steps=5)
    >>> crit.re.value < 1e-5, crit.kh1.n, crit.stderr_kind  # a convex problem
    (True, 4, 'probes')
    """
    if scope not in ("batches", "pooled"):
        raise InputError(f"scope is {scope!r}: choose 'batches' or 'pooled'")
    _check_reading(reading)
    check_route(route)
    whole = Problem(model, batches, loss=loss, mode=mode, seed=seed)
    mean_loss = float(whole.loss())  # names a bad batch before the first product
    if micro_batch is not None:
        whole.in_micro_batches(micro_batch)  # says what stands against it before any product
    space, pooled = whole.space.select(parameters), scope == "pooled"
    steps = clamped(steps, space.size)
    device = None if basis_device is None else str(basis_device)
    asked = Plan(micro_batch, route, basis_dtype, device)
    example = bytes_an_example(whole, space)
    cost = cost_of(whole, space, 0 if legacy else steps, example, pooled=pooled)
    left = available_memory(whole.device) if memory is None else memory

    def one(problem: Problem, stream: int, plan: Plan) -> tuple[Spectrum, RouteName]:
        if plan.micro_batch is not None:
            problem = problem.in_micro_batches(plan.micro_batch, check=False)
        room = room_to_keep(plan, cost, whole.device, left)
        operator = HessianOperator(problem, parameters, plan.route, room)
        spectrum = quadrature(
            operator,
            probes,
            steps,
            seed,
            legacy=legacy,
            stream=stream,
            basis_dtype=plan.basis_dtype,
            basis_device=plan.basis_device,
            progress=progress,
        )
        return spectrum, operator.route

    leaner = plans(whole, asked, cost, memory)
    used: list[Plan] = []  # the last, with which the next batch begins
    failed: list[Plan] = []
    spectra: list[Spectrum] = []
    for stream, problem in enumerate([whole] if pooled else _one_a_batch(whole)):
        (spectrum, taken), plan, before = attempt(
            partial(one, problem, stream), chain(used, leaner), whole.device
        )
        # what was measured for the first batch holds for the others
        used = [replace(plan, route=taken)]
        failed += before
        spectra.append(replace(spectrum, plan=describe(used[0], used[0], before)))
    return _average(
        tuple(spectra),
        reading=reading,
        scope=scope,
        batches=len(whole.batches),
        route=taken,
        plan=describe(used[0], asked, failed),
        loss=mean_loss,
    )


def _one_a_batch(whole: Problem) -> Iterator[Problem]:
    """The problem of each batch alone."""
    for batch in whole.batches:
        # a list, since a pair whose input is a pair looks like two pairs
        yield whole.over([(batch.x, batch.y)])


def _average(
    spectra: tuple[Spectrum, ...],
    *,
    reading: Reading,
    scope: Literal["batches", "pooled"],
    batches: int,
    route: str,
    plan: str,
    loss: float,
) -> Criteria:
    """Average over probes, then over spectra."""
    parts = [spectrum_criteria(spectrum, reading) for spectrum in spectra]
    matvecs = sum(spectrum.matvecs for spectrum in spectra)

    def estimate(name: str) -> Estimate:
        per_probe = [getattr(part, name) for part in parts]
        samples = per_probe[0] if len(parts) == 1 else [values.mean() for values in per_probe]
        result = Estimate.of(samples, matvecs)
        if not math.isfinite(result.value):
            raise InputError(f"{name} is {result.value}: a positive eigenvalue is within rounding")
        return result

    first = spectra[0]
    return Criteria(
        re=estimate("re"),
        kh1=estimate("kh1"),
        kh05=estimate("kh05"),
        negative_share=estimate("negative_share"),
        spectra=spectra,
        scope=scope,
        stderr_kind="probes" if len(parts) == 1 else "batches",
        reading=reading,
        legacy=first.legacy,
        probes=first.probes,
        steps=first.steps,
        batches=batches,
        dtype=first.dtype,
        route=route,
        plan=plan,
        loss=loss,
        matvecs=matvecs,
    )
