"""The criteria r_e, K_H1 and K_H05 of a Hessian spectrum (arXiv:2412.10146, Section 3)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from lla.errors import InputError
from lla.estimate import Estimate
from lla.hessian.adaptive import Adaptive, Goal, Measured, measure
from lla.hessian.operator import HessianOperator
from lla.hessian.per_batch import PerBatch
from lla.hessian.plans import Plan
from lla.hessian.ratios import Reading, check_reading, spectrum_criteria
from lla.hessian.routes import RouteName, check_route
from lla.hessian.spectrum import Spectrum, clamped, quadrature
from lla.hessian.spread import Over
from lla.hessian.targets import Target, check_target, targets_of
from lla.parameters import Pattern
from lla.problem import Loss, Mode, Problem

Scope = Literal["batches", "pooled"]

_NAMES = ("re", "kh1", "kh05", "negative_share")


@dataclass(frozen=True)
class Criteria:
    """The criteria of a model on its batches, with standard errors and what they rest on.

    With a `target_stderr`, what was not asked for is NaN, since runs that end early do not tell it,
    and so are rows of the spectra shorter than `steps`.
    """

    re: Estimate  # max(0, -lambda_min) / lambda_max
    kh1: Estimate  # sum_{l<0} |l| w / sum_{l>0} l w
    kh05: Estimate  # the same with the terms to the power 1/2
    negative_share: Estimate  # sum_{l<0} |l| w / sum |l| w
    spectra: tuple[Spectrum, ...]  # one a batch, or one of all batches pooled
    scope: Scope
    stderr_kind: Literal["batches", "probes"]
    reading: Reading
    legacy: bool
    probes: int  # a batch; the most of any where a target decided
    steps: int
    batches: int  # that were measured
    dtype: str
    route: str  # of the Hessian products
    plan: str  # how they were made, and what ran out of memory before, see `lla.hessian.plans`
    loss: float  # mean over all examples
    matvecs: int  # products of one batch, all batches and probes
    adaptive: Adaptive | None = None  # how it went with a `target_stderr`; None without one

    @property
    def converged(self) -> bool | None:
        """Whether every target was met; None where there was none."""
        return None if self.adaptive is None else self.adaptive.converged

    def reread(self, reading: Reading) -> Criteria:
        """The criteria in another reading, from the same spectra.

        Raises:
            InputError: a target_stderr was given, so that runs ended early.
        """
        if self.adaptive is not None:
            raise InputError(
                "the runs ended early for a target_stderr and tell no other reading: measure again "
                "with reading=, and with steps and probes in place of a target"
            )
        names = ("scope", "batches", "route", "plan", "loss")
        facts = {name: getattr(self, name) for name in names}
        return _average(self.spectra, reading=reading, **facts)


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
    scope: Scope = "batches",
    parameters: Pattern | Sequence[Pattern] | None = None,
    route: RouteName | None = None,
    micro_batch: int | None = None,
    basis_dtype: torch.dtype | None = None,
    basis_device: torch.device | str | None = None,
    memory: int | None = None,
    target_stderr: Target | None = None,
    over: Over = "batches",
    max_matvecs: int | None = None,
    progress: bool = False,
) -> Criteria:
    """The criteria r_e, K_H1 and K_H05 of a model.

    Each batch has a Hessian and a spectrum of its own. The ratios are averaged over its probes,
    then over the batches. With two batches or more the standard error is that of the batch means;
    with one it is the noise of the probes alone.

    With a `target_stderr` only as many products are made as it takes, see `lla.hessian.adaptive`:
    the same quantities, those of `steps` steps, from shorter runs and fewer of them. Give more
    batches than four then, they are taken one after another as they are needed. What was reached
    is in the result's `converged` and `adaptive`.

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
        target_stderr: standard error to reach, relative to the value, of r_e and K_H1, 0.05 say;
            or a mapping such as {"re": 0.1, "kh1": 0.05}, also with "kh05", for which every run
            has all steps. `probes` and `steps` are then the most that are made. Where it cannot be
            reached there is a warning.
        over: what the target's standard error is of. "batches" takes those given for a sample of
            all there could be; their scatter counts, and more of them are what reduces it.
            "probes" takes them for all there are; only the noise of the probes counts. One batch
            and the scope "pooled" leave only that.
        max_matvecs: Hessian-vector products at most, with a target_stderr.
        progress: show a progress bar for each batch.

    Raises:
        InputError: see `lla.Problem`, `lla.Problem.in_micro_batches`, `lla.spectral_density` and
            `spectrum_criteria`; a target that is not positive or of no criterion, or with legacy;
            fewer max_matvecs than steps.
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
    check_reading(reading)
    check_route(route)
    check_target(target_stderr, over, max_matvecs, legacy=legacy)
    whole = Problem(model, batches, loss=loss, mode=mode, seed=seed)
    mean_loss = float(whole.loss())  # names a bad batch before the first product
    if micro_batch is not None:
        whole.in_micro_batches(micro_batch)  # says what stands against it before any product
    steps = clamped(steps, whole.space.select(parameters).size)
    device = None if basis_device is None else str(basis_device)
    asked = Plan(micro_batch, route, basis_dtype, device)
    vectors, pooled = 0 if legacy else steps, scope == "pooled"
    batchwise = PerBatch(whole, asked, vectors, parameters, memory, pooled=pooled)

    if target_stderr is not None:
        count = 1 if pooled else len(whole.batches)
        goal = Goal(
            targets=targets_of(target_stderr),
            over="probes" if count == 1 else over,
            probes=probes,
            steps=steps,
            max_matvecs=probes * steps * count if max_matvecs is None else max_matvecs,
            seed=seed,
            reading=reading,
        )
        measured = measure(batchwise, count, goal, progress)
        return _with_target(measured, goal, batchwise, scope, len(whole.batches), mean_loss)

    def one(operator: HessianOperator, plan: Plan, stream: int) -> Spectrum:
        return quadrature(
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

    spectra: list[Spectrum] = []
    for stream, problem in enumerate(batchwise.problems()):
        spectrum, described = batchwise.run(problem, partial(one, stream=stream))
        spectra.append(replace(spectrum, plan=described))
    return _average(
        tuple(spectra),
        reading=reading,
        scope=scope,
        batches=len(whole.batches),
        route=batchwise.route,
        plan=batchwise.plan,
        loss=mean_loss,
    )


def _with_target(
    measured: Measured, goal: Goal, batchwise: PerBatch, scope: Scope, batches: int, loss: float
) -> Criteria:
    """The criteria that were measured with a target, with a warning where it was not reached."""
    if not measured.adaptive.converged:
        warnings.warn(measured.adaptive.shortcoming(measured.matvecs), stacklevel=3)
    missing = Estimate(math.nan, None, 0, measured.matvecs)
    estimates = {name: measured.estimates.get(name, missing) for name in _NAMES}
    return Criteria(
        **estimates,
        spectra=measured.spectra,
        scope=scope,
        stderr_kind=goal.over,
        reading=goal.reading,
        legacy=False,
        probes=max(measured.adaptive.probes),
        steps=goal.steps,
        batches=batches if scope == "pooled" else len(measured.spectra),
        dtype=measured.spectra[0].dtype,
        route=batchwise.route,
        plan=batchwise.plan,
        loss=loss,
        matvecs=measured.matvecs,
        adaptive=measured.adaptive,
    )


def _average(
    spectra: tuple[Spectrum, ...],
    *,
    reading: Reading,
    scope: Scope,
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
