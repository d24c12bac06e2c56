"""The criteria r_e, K_H1 and K_H05 of a Hessian spectrum (arXiv:2412.10146, Section 3)."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
from torch import nn

from lla.arguments import folder_path, number_of_draws, number_of_steps
from lla.errors import InputError
from lla.estimate import Estimate, frame_of
from lla.hessian.accuracy import Over, StandardErrors, Target, targets_of
from lla.hessian.criteria.adaptive import measure
from lla.hessian.criteria.goal import Adaptive, Goal, Scope, check_scope
from lla.hessian.criteria.kept import KeptSpectra, Made
from lla.hessian.kind import Kind, kind_of
from lla.hessian.memory.batch_hessians import BatchHessians
from lla.hessian.memory.plans import Memory, Plan, memory_settings
from lla.hessian.operator import HessianOperator
from lla.hessian.products.routes import RouteName, check_route
from lla.hessian.quadrature import clamped, quadrature
from lla.hessian.ratios import Reading, check_reading, spectrum_criteria
from lla.hessian.rounding import EXAMPLES, product_rounding, warn_of_rounding
from lla.hessian.spectrum import Spectrum, curve_of
from lla.parameters import Pattern
from lla.plotting import entitled
from lla.problem import Loss, Mode, Precision, Problem
from lla.ranks import ALONE, Ranks, present
from lla.saved import Saved
from lla.spectrum_plots import plot_spectra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMES = ("re", "kh1", "kh05", "negative_share")
_CURVES = 7  # batches that have a curve of their own in a picture


@dataclass(frozen=True)
class Criteria(Saved):
    """The criteria of a model on its batches, with standard errors and what they rest on.

    With a `target_stderr`, criteria without a target are NaN, because runs that end early do not
    tell them; the rows of the spectra then have different lengths.
    """

    re: Estimate  # max(0, -lambda_min) / lambda_max
    kh1: Estimate  # sum_{l<0} |l| w / sum_{l>0} l w
    kh05: Estimate  # the same with the terms to the power 1/2
    negative_share: Estimate  # sum_{l<0} |l| w / sum |l| w
    spectra: tuple[Spectrum, ...]  # one for each batch, or one of all batches pooled
    scope: Scope
    stderr_kind: Over
    reading: Reading
    legacy: bool
    probes: int  # for each batch; with a target, the largest number of any batch
    steps: int
    batches: int  # that were measured
    dtype: str
    route: str  # of the Hessian products
    plan: str  # how they fit into memory, see `lla.hessian.memory.plans`
    loss: float  # mean over all examples
    matvecs: int  # products of one batch, all batches and probes
    adaptive: Adaptive | None = None  # how a target was approached; None without a target
    # share of a product that is rounding, see `lla.hessian.rounding`; None if it is not known
    rounding: float | None = None
    about: str = ""  # model, number of examples and mode in words; empty if not known

    def _faults(self) -> Iterator[str]:
        if not self.spectra:
            yield "it has no spectrum"
        if min(self.probes, self.steps, self.batches) < 1 or self.matvecs < 0:
            yield (
                f"probes is {self.probes}, steps is {self.steps}, batches is {self.batches} and "
                f"matvecs is {self.matvecs}"
            )

    def to_frame(self) -> pd.DataFrame:
        """One row a criterion: value, standard error, samples, products; NaN if not measured."""
        return frame_of({name: getattr(self, name) for name in _NAMES}, "criterion")

    def plot(
        self, ax: Axes | None = None, *, linear: float | None = None, title: str | None = None
    ) -> Figure:
        """Draw the spectrum of each batch, or their mean if there are more than seven.

        Args:
            ax: axes to draw into; a new figure by default.
            linear: magnitude up to which the axis is linear, see `lla.spectrum_plots`.
            title: above the picture; a new figure has `about` by default.
        """
        if len(self.spectra) > _CURVES:
            curves = [curve_of(f"mean of {len(self.spectra)} batches", self.spectra)]
        else:
            names = ["all batches"] if self.scope == "pooled" else range(len(self.spectra))
            curves = [
                curve_of(name if isinstance(name, str) else f"batch {name}", [spectrum])
                for name, spectrum in zip(names, self.spectra, strict=True)
            ]
        return entitled(ax, plot_spectra(curves, linear=linear, ax=ax), title, self.about)

    def __repr__(self) -> str:
        shown = {"r_e": self.re, "K_H1": self.kh1, "K_H05": self.kh05}
        values = ", ".join(
            f"{name} {value if value.n else 'not measured'}" for name, value in shown.items()
        )
        target = {None: "", True: "; target met", False: "; target not met"}[self.converged]
        return (
            f"Criteria of {self.about or 'a model'}, loss {self.loss:.4g}\n{values}\n"
            f"{self.batches} batches, {self.probes} probes, {self.steps} steps, {self.dtype}, "
            f"{self.reading} reading{', legacy' if self.legacy else ''}; standard error over "
            f"{self.stderr_kind}; {self.matvecs} products{target}"
        )

    @property
    def kind(self) -> Kind:
        """The kind of the spectra, with errors over batches if there are two or more.

        Runs that ended early for a `target_stderr` tell it less well; see `lla.hessian.kind`.
        """
        return kind_of(self.spectra)

    @property
    def converged(self) -> bool | None:
        """Whether every target was met; None without a target."""
        return None if self.adaptive is None else self.adaptive.converged

    def reread(self, reading: Reading) -> Criteria:
        """The criteria in another reading, from the same spectra.

        Raises:
            InputError: a target_stderr was given, for which runs ended early.
        """
        if self.adaptive is not None:
            raise InputError(
                "the runs ended early for a target_stderr and cannot be read again: measure again "
                "with reading=, and with steps and probes in place of a target"
            )
        return replace(self, reading=reading, **_averages(self.spectra, reading))


def criteria(
    model: nn.Module,
    batches: Any = None,
    mode: Mode = "eval",
    probes: int = 10,
    steps: int = 100,
    seed: int = 0,
    *,
    loss: Loss | None = None,
    reading: Reading = "product",
    legacy: bool = False,
    scope: Scope = "batches",
    parameters: Pattern | Sequence[Pattern] | None = None,
    route: RouteName | None = None,
    micro_batch: int | None = None,
    memory: Memory | int | None = None,
    target_stderr: StandardErrors | Target | None = None,
    weights: Sequence[float] | None = None,
    precision: Precision | None = None,
    check: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Criteria:
    """The criteria r_e, K_H1 and K_H05 of a model.

    Each batch has a Hessian and a spectrum of its own. The ratios are averaged over its probes,
    then over the batches. With two batches or more the standard error is that of the batch means;
    with one it is the noise of the probes alone.

    With a `target_stderr` only as many products are made as the target takes. The quantities stay
    the same, those of `steps` steps, but come from fewer and shorter runs, see
    `lla.hessian.criteria.adaptive`. Give more than four batches then: they are taken one after
    another as they are needed. The result's `converged` and `adaptive` say what was reached.

    After Ctrl-C, or when a process has died, the batches that are finished are in the checkpoint;
    without one, nothing is kept.

    Args:
        model: any module.
        batches: see `lla.Problem`.
        mode: see `lla.Problem`.
        probes: random start vectors a batch (the paper's n_hes).
        steps: Lanczos steps (m).
        seed: of the probes, and of dropout's mask in train mode.
        loss: see `lla.Problem`.
        reading: see `spectrum_criteria`.
        legacy: imitate the authors' public code, see `lla.hessian.lanczos.legacy`.
        scope: "pooled" takes the Hessian of all batches together instead.
        parameters: see `lla.HessianOperator`.
        route: see `lla.HessianOperator`.
        micro_batch: examples that a product takes at a time, see `lla.Problem.in_micro_batches`.
            The Hessian is that of the whole batch, in less memory. Not in train mode.
        memory: bytes to take on the model's device (what is available by default), or a
            `lla.Memory`, which also says how the Lanczos vectors are stored. If the computation
            should not fit, or runs out of memory, a plan that needs less is taken, see
            `lla.hessian.memory.plans`. Without a number of bytes, a plan that names route and
            micro_batch is tried first even if it should not fit.
        target_stderr: standard error to reach, relative to the value: a number, such as 0.05, for
            r_e and K_H1; or a mapping such as {"re": 0.1, "kh1": 0.05}, which may also name
            "kh05", for which every run makes all steps; or a `lla.Target` of either, which also
            says what the error is over (the batches by default) and limits the products.
            `probes` and `steps` are then the maximum. If the target cannot be reached, there is a
            warning. Over "batches", those given are a sample of all that there could be: their
            scatter counts, and more of them reduce it. Over "probes", they are all that there are:
            only the noise of the probes counts. So it is for one batch, and for scope "pooled".
        weights: see `lla.Problem`; for scope "pooled" and the mean loss.
        precision: see `lla.Problem`. "float64" takes about twice as long on a CPU. Where rounding
            is not small against r_e and K_H1, as in a network whose training loss is nearly zero,
            there is a warning.
        check: see `lla.Problem`; without it, rounding is not measured either.
        checkpoint: folder in which the spectrum of each batch is kept once it is finished; the same
            call goes on from there. Not with a target.
        progress: show a progress bar for each batch.

    Raises:
        InputError: a checkpoint with a target, in a folder that does not exist, or of another
            measurement; see `lla.Problem`, `lla.Problem.in_micro_batches`,
            `lla.spectral_density` and `spectrum_criteria`; a target that is not positive, of an
            unknown criterion, or with `legacy`; a limit on products below `steps`.
        NonFiniteError: a loss or a product is not finite.
        InsufficientMemoryError: it fits into memory by no plan.

    >>> import torch
    >>> model = torch.nn.Linear(2, 3)
    >>> crit = criteria(model, (torch.rand(8, 2), torch.arange(8) % 3), probes=4, steps=5)
    >>> crit.re.value < 1e-5, crit.kh1.n, crit.stderr_kind  # a convex problem
    (True, 4, 'probes')
    """
    if isinstance(model, (Problem, HessianOperator)):
        raise InputError(
            f"criteria takes a model, not a {type(model).__name__}: write lla.criteria(model, "
            "batches, loss=loss)"
        )
    ranks = present()
    ranks.meet()
    with ranks.agreed():
        probes, steps = number_of_draws("probes", probes), number_of_steps(steps)
        check_scope(scope)
        check_reading(reading)
        check_route(route)
        target = target_stderr
        if not (target is None or isinstance(target, Target)):
            target = Target(target)
        targets = {} if target is None else targets_of(target.stderr, legacy)
        folder = None if checkpoint is None else folder_path("checkpoint", checkpoint)
        if target is not None and folder is not None:
            raise InputError(
                "with a target_stderr no batch is finished before the end: leave the checkpoint "
                "out, or limit the products by lla.Target(max_matvecs=...)"
            )
    ranks.same({"the number of probes": str(probes), "the number of steps": str(steps),
                "scope": scope, "legacy": str(legacy), "target_stderr": str(target)})  # fmt: skip
    whole = Problem(
        model, batches, loss=loss, mode=mode, seed=seed, weights=weights, precision=precision,
        check=check,
    )  # fmt: skip
    mean_loss = float(whole.loss())  # a bad batch is named before the first product
    if micro_batch is not None:
        with whole.ranks.agreed():
            whole.in_micro_batches(micro_batch)  # raises errors before the first product
    steps = clamped(steps, whole.space.select(parameters).size)
    limits, pooled = memory_settings(memory), scope == "pooled"
    asked = Plan.of(limits, micro_batch, route)
    vectors = 0 if legacy else steps
    hessians = BatchHessians(
        whole, asked, vectors, parameters, limits.bytes, pooled=pooled,
        # with a target nearly every batch gets one probe
        products=steps if targets else probes * steps,
    )  # fmt: skip
    over: Over = "probes" if hessians.count == 1 else "batches" if target is None else target.over
    adaptive = None
    if target is None:
        work = partial(
            quadrature, probes=probes, steps=steps, seed=seed, legacy=legacy, progress=progress
        )
        facts = (mode, seed, probes, steps, legacy, scope, str(whole.dtype))
        kept = KeptSpectra(folder, repr(facts), parameters, whole.ranks if pooled else ALONE)
        spectra, made = _of_all(whole.ranks, hessians, work, pooled, kept)
        estimates = _averages(spectra, reading)
    else:
        most = target.max_matvecs
        most = probes * steps * hessians.count if most is None else most
        goal = Goal(targets, over, probes, steps, most, seed, reading)
        found, spectra, adaptive = measure(hessians, goal, progress)
        matvecs = sum(spectrum.matvecs for spectrum in spectra)
        if not adaptive.converged:
            warnings.warn(adaptive.shortcoming(matvecs), stacklevel=2)
        estimates = {n: found.get(n, Estimate(math.nan, None, 0, matvecs)) for n in _NAMES}
        made = Made.by(hessians) if hessians.used else None
    how: Made = next(filter(None, whole.ranks.gathered(made)))
    few = max(1, min(EXAMPLES, how.at_once // 2))  # in float64 one takes the memory of two
    with whole.ranks.agreed():
        rounding = product_rounding(whole, parameters, few) if check else None
    rounding = whole.ranks.of(0, rounding)
    warn_of_rounding(rounding, {"r_e": estimates["re"], "K_H1": estimates["kh1"]})
    return Criteria(
        **estimates,
        spectra=spectra,
        scope=scope,
        stderr_kind=over,
        reading=reading,
        legacy=legacy,
        probes=max(spectrum.probes for spectrum in spectra),
        steps=steps,
        batches=whole.division.count if pooled else len(spectra),
        dtype=spectra[0].dtype,
        route=how.route,
        plan=how.plan,
        loss=mean_loss,
        matvecs=sum(spectrum.matvecs for spectrum in spectra),
        adaptive=adaptive,
        rounding=rounding,
        about=whole.about,
    )


def _of_all(
    ranks: Ranks,
    hessians: BatchHessians,
    work: Callable[..., Spectrum],
    pooled: bool,
    kept: KeptSpectra,
) -> tuple[tuple[Spectrum, ...], Made | None]:
    """The spectrum of each Hessian, in the order of the batches, and how the last was made.

    Args:
        ranks: that share the batches; of the pooled Hessian all have the same spectrum.
        hessians: of this rank.
        work: operator, plan and number of the batch -> spectrum.
        pooled: whether there is only one Hessian.
        kept: the spectra that were finished before.
    """
    last: Made | None = None
    found: list[tuple[int, Spectrum]] = []
    with nullcontext() if pooled else ranks.agreed():
        for stream, problem in hessians.problems():

            def compute(stream: int = stream, problem: Problem = problem) -> tuple[Spectrum, Made]:
                spectrum, described = hessians.run(problem, partial(work, stream=stream))
                return replace(spectrum, plan=described), Made.by(hessians)

            spectrum, last = kept.spectrum(stream, problem, compute)
            found.append((stream, spectrum))
    if not pooled:
        found = [each for part in ranks.gathered(found) for each in part]
    found.sort(key=lambda each: each[0])
    return tuple(spectrum for _, spectrum in found), last


def _averages(spectra: Sequence[Spectrum], reading: Reading) -> dict[str, Any]:
    """The estimates by name: averages over the probes, then over the spectra."""
    parts = [spectrum_criteria(spectrum, reading) for spectrum in spectra]
    matvecs = sum(spectrum.matvecs for spectrum in spectra)
    found: dict[str, Any] = {}
    for name in _NAMES:
        per_probe = [getattr(part, name) for part in parts]
        samples = per_probe[0] if len(parts) == 1 else [values.mean() for values in per_probe]
        found[name] = Estimate.of(samples, matvecs)
        if not math.isfinite(found[name].value):
            raise InputError(
                f"{name} is {found[name].value}: a positive eigenvalue is within rounding"
            )
    return found
