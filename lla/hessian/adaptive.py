"""Criteria to a stated standard error, from no more Hessian-vector products than that takes.

`lla.criteria` makes the same number of products for every model. Here probes and batches are added
until the error is as small as asked for, and each tells as much as it can:

- r_e is one number a Hessian, the same from every probe once the outermost Ritz values have
  converged. One probe a batch is enough, and its run ends when their residuals say so.
- K_H1 is the mean over probes of a ratio with a large scatter. Most of that comes from the probe's
  parts along a few outlying eigenvectors, which the run resolves, and over which the ratio is then
  averaged without a product (`lla.hessian.outliers`).
- K_H1 of a short run is off by what its quadrature lacks at the kink of |x|. That is nearly the
  same number for every probe: the first run has all its steps and says how much it is at which
  step, the others stop early and are corrected by it (multilevel Monte Carlo, Giles 2015). So
  the quantity is that of `steps` steps, and no other.
- K_H05 depends on the steps by definition, so that for it every run has all of them.

A further batch always tells more than a further probe on a batch that was measured already, whose
own deviation stays; so each batch gets one probe (the first one two), in the order given, and
further probes follow in turn when there are no more batches. When not even exact values on these
batches would do, the measurement ends and says so.

To stop when an estimated error is small is to stop, by preference, where it is underestimated. So
it is not the standard error that has to reach the target, but half the 95 % interval by Student's
t against that of a normal number: with four batches it has to be 1.6 times smaller than with many.
No decision is made on fewer than four batches, or four differences between probes. Chow and
Robbins (1965) have the theory of such rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from tqdm.auto import tqdm

from lla.errors import InputError
from lla.estimate import Estimate
from lla.hessian.operator import HessianOperator
from lla.hessian.outliers import NO_OUTLIERS, Averages, Outliers, outliers
from lla.hessian.per_batch import PerBatch
from lla.hessian.plans import Plan
from lla.hessian.ratios import Reading, probe_ratios
from lla.hessian.runs import Run, lanczos_run
from lla.hessian.spectrum import Spectrum
from lla.hessian.spread import Over, Spread, spread
from lla.hessian.targets import FEWEST, reached
from lla.probes import rademacher

Stopped = Literal["targets", "batches", "probes", "budget"]


@dataclass(frozen=True)
class Accuracy:
    """How sure a measured criterion is, and why not surer."""

    target: float | None  # standard error asked for, relative to the value; None: none
    reached: float  # standard error relative to the value; inf where it is not known
    interval: tuple[float, float]  # 95 %, by Student's t; infinite where it is not known
    probes: float | None  # the probes' part of the standard error; None for one probe a batch
    batches: float | None  # the part that stays with exact values on each batch; None over probes


@dataclass(frozen=True)
class Adaptive:
    """How a measurement with a target went."""

    stopped: Stopped  # what ended it: the targets were met, or what there was of the other is used
    accuracy: dict[str, Accuracy]  # of each criterion that was measured
    probes: tuple[int, ...]  # of each batch
    averaged: tuple[bool, bool]  # K_H1 over positive and negative outliers; not if some are double

    @property
    def converged(self) -> bool:
        """Whether all targets were met."""
        return self.stopped == "targets"

    def shortcoming(self, matvecs: int) -> str:
        """Which target was missed by how much, and what would help."""
        missed = {
            name: found.reached / found.target
            for name, found in self.accuracy.items()
            if found.target is not None
        }
        name = max(missed, key=missed.__getitem__)
        found = self.accuracy[name]
        reached = "not known" if found.reached == math.inf else f"{found.reached:.2g} of its value"
        help = {
            "budget": "raise max_matvecs",
            "probes": "raise probes",
            "batches": "the batches differ by more than further probes can tell, so give more of "
            "them, or over='probes' if they are all there are",
        }  # fmt: skip
        return (
            f"after {matvecs} products on {len(self.probes)} batches the standard error of {name} "
            f"is {reached}, and {found.target:.2g} was asked for with a margin for few samples: "
            f"{help[self.stopped]}"
        )


@dataclass(frozen=True)
class Goal:
    """What is asked for."""

    targets: Mapping[str, float]  # criterion -> standard error relative to its value
    over: Over
    probes: int  # a batch, at most
    steps: int  # of a whole run
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
        """Whether K_H1 may be averaged over outliers: a second probe has to check them."""
        return self.wants_kh1 and self.probes > 1

    @property
    def re_tolerance(self) -> float:
        """By how much a converged r_e may be off, relative to it; inf if it is not asked for."""
        return self.targets["re"] / 2 if "re" in self.targets else math.inf


@dataclass(frozen=True)
class Measured:
    """What a measurement with a target found."""

    estimates: dict[str, Estimate]  # what was not measured is left out
    spectra: tuple[Spectrum, ...]  # one a batch that was measured
    adaptive: Adaptive
    matvecs: int


def measure(batchwise: PerBatch, count: int, goal: Goal, progress: bool = False) -> Measured:
    """Measure the criteria that have a target until all are met or nothing is left to add.

    Args:
        batchwise: the Hessians.
        count: how many there are.
        goal: what is asked for.
        progress: show a progress bar.

    Raises:
        InputError: the first run alone takes more products than there may be; a probe has no
            positive eigenvalue.
        NonFiniteError: a product is not finite.
        InsufficientMemoryError: it fits into memory by no plan.
    """
    if goal.probes < 1 or goal.steps < 1:
        raise InputError(f"probes is {goal.probes} and steps {goal.steps}: both must be at least 1")
    if goal.max_matvecs < goal.steps:
        raise InputError(
            f"max_matvecs is {goal.max_matvecs}: the first run alone takes {goal.steps} products, "
            "so raise it or take fewer steps"
        )
    ledger = _Ledger(goal, count)
    with tqdm(desc="Lanczos", unit="product", disable=not progress) as bar:
        while True:
            for index, problem in enumerate(batchwise.problems()):
                if ledger.wanted(index) == 0:
                    continue
                visit = partial(_visit, ledger=ledger, index=index, on_step=bar.update)
                found, plan = batchwise.run(problem, visit)
                ledger.add(index, found, plan)
                stopped = ledger.stopped()
                if stopped is not None:
                    return ledger.measured(stopped)


@dataclass(frozen=True)
class _Found:
    """What one visit to a Hessian found."""

    runs: list[Run]
    outliers: Outliers  # from the first run
    size: int  # P
    dtype: str


def _visit(
    operator: HessianOperator,
    plan: Plan,
    *,
    ledger: _Ledger,
    index: int,
    on_step: Callable[[int], object],
) -> _Found:
    """Make the runs that are wanted of one Hessian, as far as the products reach."""
    goal, least, left = ledger.goal, ledger.least, ledger.left
    have, settled = len(ledger.runs[index]), ledger.settled
    runs: list[Run] = []
    found = NO_OUTLIERS
    for probe in range(have, have + ledger.wanted(index)):
        if runs and left < least:
            break
        # once it has converged, r_e is the same from every probe
        run, lanczos = lanczos_run(
            operator,
            (goal.seed, index, probe),
            goal.steps,
            least,
            min(goal.steps, left),
            math.inf if settled and probe > 0 else goal.re_tolerance,
            on_step,
            plan.basis_dtype,
            plan.basis_device,
        )
        if not ledger.visited and not runs:
            least = _steps_that_do(run, goal)
        if probe == 0 and goal.deflates:
            second = rademacher(operator.shape[0], operator.theta, goal.seed, index, 1)
            count = min(least, len(run.alphas))
            found = outliers(lanczos, count, second, goal.seed, index)
        runs.append(run)
        left -= run.matvecs
    dtype = str(operator.dtype).removeprefix("torch.")
    return _Found(runs, found, operator.shape[0], dtype)


def _steps_that_do(run: Run, goal: Goal) -> int:
    """Steps that further runs have at least, after the very first.

    So many that the bound by a short run lacks no larger share of the negative part than the
    standard error may be. What it lacks is added; that it is not the same for all is then a
    fraction of the standard error.
    """
    if goal.whole_runs:
        return goal.steps
    if not goal.wants_kh1:
        return min(_LOOK, goal.steps)
    allowed, count = goal.targets["kh1"] * (run.positive - run.form), len(run.alphas)
    return next((n for n in range(2, count) if run.missing(n) <= allowed), count)


class _Ledger:
    """All runs so far, what they amount to, and what to do next."""

    def __init__(self, goal: Goal, count: int) -> None:
        self.goal = goal
        self.runs: list[list[Run]] = [[] for _ in range(count)]
        corrects = goal.wants_kh1 or goal.whole_runs
        self.least = goal.steps if corrects else min(_LOOK, goal.steps)  # steps of the next run
        self._outliers: list[Outliers] = []
        self._plans: list[str] = [""] * count
        self._size, self._dtype = 0, "float64"
        self._missing: dict[tuple[int, int], float] = {}
        self._spreads: dict[str, Spread] = {}  # as long as no run is added

    @property
    def matvecs(self) -> int:
        """Products made."""
        return sum(run.matvecs for runs in self.runs for run in runs)

    @property
    def left(self) -> int:
        """Products that may still be made."""
        return self.goal.max_matvecs - self.matvecs

    @property
    def visited(self) -> list[list[Run]]:
        """The runs of each Hessian that has some; these are the first."""
        return [runs for runs in self.runs if runs]

    @property
    def settled(self) -> bool:
        """Whether r_e has converged in the first run on every Hessian."""
        return all(runs[0].re_within(self.goal.re_tolerance) for runs in self.visited)

    @property
    def simple(self) -> tuple[bool, bool]:
        """Whether second probes found every outlier, positive and negative, to be there once.

        A repeated eigenvalue has several directions, of which a run sees one. It is the network's
        structure that repeats one, so on nearly all batches or on none; a single probe among many
        that disagrees is one whose run was too short.
        """
        pairs = zip(self.visited, self._outliers, strict=True)
        checks = [found.agree(*runs[1].ritz[:2]) for runs, found in pairs if len(runs) > 1]
        allowed = len(checks) // 4
        upper, lower = (sum(not c[side] for c in checks) <= allowed for side in (0, 1))
        return self.goal.deflates and upper, self.goal.deflates and lower

    def wanted(self, index: int) -> int:
        """How many probes to add to one Hessian now."""
        goal, have = self.goal, len(self.runs[index])
        amount = 1
        if have == 0 and index == 0 and goal.deflates:
            amount = 2  # the second checks the outliers
        elif have > 0 and goal.over == "probes":
            amount = self._shortfall(have)
        return min(amount, goal.probes - have)

    def add(self, index: int, found: _Found, plan: str) -> None:
        """Enter what a visit found."""
        if not self.visited:
            self.least = _steps_that_do(found.runs[0], self.goal)
            self._size, self._dtype = found.size, found.dtype
        if not self.runs[index]:
            self._outliers.append(found.outliers)
        self.runs[index] += found.runs
        self._plans[index] = plan
        self._spreads.clear()

    def stopped(self) -> Stopped | None:
        """Why to stop now; None to go on."""
        goal = self.goal
        unmet = [name for name in goal.targets if not self._met(name)]
        if not unmet:
            return "targets"
        complete = len(self.visited) == len(self.runs)
        if complete and goal.over == "batches" and all(map(self._hopeless, unmet)):
            return "batches"
        if all(len(runs) >= goal.probes for runs in self.runs):
            return "probes"
        return "budget" if self.left < self.least else None

    def measured(self, stopped: Stopped) -> Measured:
        """The result."""
        names = [*self.goal.targets, *(["negative_share"] if self.goal.wants_kh1 else [])]
        spreads = {name: self._spread(name) for name in names}
        matvecs = self.matvecs
        return Measured(
            estimates={
                name: Estimate(s.value, s.stderr, self._samples(s), matvecs)
                for name, s in spreads.items()
            },
            spectra=tuple(self._spectrum(index) for index in range(len(self.visited))),
            adaptive=Adaptive(
                stopped=stopped,
                accuracy={name: self._accuracy(name, s) for name, s in spreads.items()},
                probes=tuple(len(runs) for runs in self.visited),
                averaged=self.simple,
            ),
            matvecs=matvecs,
        )

    def _accuracy(self, name: str, found: Spread) -> Accuracy:
        reached = math.inf
        if found.stderr is not None and found.value != 0:
            reached = found.stderr / abs(found.value)
        return Accuracy(
            target=self.goal.targets.get(name),
            reached=reached,
            interval=found.interval,
            probes=found.within,
            batches=found.between if self.goal.over == "batches" else None,
        )

    def _samples(self, found: Spread) -> int:
        """Independent samples behind a standard error."""
        return len(self.visited) if found.dof == math.inf else int(found.dof) + 1

    def _spread(self, name: str) -> Spread:
        """The mean of a criterion and its error."""
        if name not in self._spreads:
            averaged = name in ("kh1", "negative_share")
            self._spreads[name] = (self._of_averages if averaged else self._of_probes)(name)
        return self._spreads[name]

    def _of_probes(self, name: str) -> Spread:
        """That of r_e or K_H05, which every run tells alone."""
        samples, within = [], None
        for runs in self.visited:
            ratios = [self._ratios(run) for run in self._telling(name, runs)]
            samples.append(np.array([r[0] if name == "re" else r[2] for r in ratios]))
        if name == "re" and self.settled:
            within = float(np.mean([runs[0].re_error() for runs in self.visited]))
        return spread(samples, self.goal.over, within)

    def _of_averages(self, name: str) -> Spread:
        """That of K_H1 or the negative share, which are averaged over outliers."""
        samples, variances, (upper, lower) = [], [], self.simple
        for known, runs in zip(self._outliers, self.visited, strict=True):
            averages = [self._average(run, known.only(upper, lower)) for run in runs]
            pairs = [
                (a.kh1, a.kh1_variance) if name == "kh1" else (a.share, a.share_variance)
                for a in averages
            ]
            values, scatter = np.array(pairs).T
            samples.append(values)
            variances.append(scatter.mean() / len(runs))
        # a denominator with outliers is too far from a constant to predict the ratio's scatter
        within = math.sqrt(sum(variances)) / len(variances) if upper else None
        return spread(samples, self.goal.over, within)

    def _telling(self, name: str, runs: list[Run]) -> list[Run]:
        """The runs on one Hessian that tell a criterion."""
        if name != "re":
            return runs
        tolerance = self.goal.re_tolerance
        return [run for run in runs if run.whole or run.re_within(tolerance)] or runs[:1]

    def _ratios(self, run: Run) -> tuple[float, float, float, float]:
        """The plain ratios of one run; raises where no eigenvalue is positive."""
        eps = float(np.finfo(self._dtype).eps)
        return probe_ratios(*run.ritz[:2], eps, self.goal.reading)

    def _average(self, run: Run, known: Outliers) -> Averages:
        """K_H1 and the negative share of one run."""
        self._ratios(run)
        return known.average(*run.ritz[:2], self._positive(run), run.form, self._size)

    def _positive(self, run: Run) -> float:
        """The part v' H+ v of one probe, as all steps would give it."""
        if run.whole:
            return run.positive
        whole, steps = [r for runs in self.runs for r in runs if r.whole], len(run.alphas)
        key = (steps, len(whole))
        if key not in self._missing:
            self._missing[key] = float(np.mean([other.missing(steps) for other in whole]))
        return run.bound + self._missing[key]

    def _met(self, name: str) -> bool:
        """Whether a target is met, and that can be known."""
        if self.goal.over == "probes" and len(self.visited) < len(self.runs):
            return False
        target = self.goal.targets[name]
        return reached(self._spread(name), target, self.goal.over, self._dtype)

    def _hopeless(self, name: str) -> bool:
        """Whether a target would be missed with exact values on all batches."""
        found = self._spread(name)
        if len(self.runs) < FEWEST:
            return True
        if found.between is None or found.within_dof < FEWEST:
            return False
        return found.factor * found.between > self.goal.targets[name] * abs(found.value)

    def _shortfall(self, have: int) -> int:
        """Probes that a Hessian with so many lacks, by what is known now."""
        worst = 0.0  # error in units of the one that is allowed
        for name in self.goal.targets:
            found = self._spread(name)
            if found.safe_stderr is not None and found.value:
                worst = max(worst, found.safe_stderr / (self.goal.targets[name] * abs(found.value)))
        # an error from several Hessians is that of the harmonic mean of their probes
        mean = len(self.runs) / sum(1 / len(runs) for runs in self.runs)
        needed = math.ceil(mean * worst**2) if worst > 1 else math.floor(mean) + 1
        return max(0, needed - have)

    def _spectrum(self, index: int) -> Spectrum:
        """The runs on one Hessian as a spectrum of which rows end where they end."""
        runs, goal = self.runs[index], self.goal
        steps = max(len(run.alphas) for run in runs)
        values, weights = np.zeros((2, len(runs), steps))
        for row, run in enumerate(runs):
            values[row, : len(run.alphas)], weights[row, : len(run.alphas)] = run.ritz[:2]
        return Spectrum(
            eigenvalues=values,
            weights=weights,
            counts=np.array([len(run.alphas) for run in runs]),
            size=self._size,
            steps=steps,
            seed=goal.seed,
            dtype=self._dtype,
            legacy=False,
            matvecs=sum(run.matvecs for run in runs),
            plan=self._plans[index],
        )


_LOOK = 10  # steps before r_e is looked at
