"""Criteria to a stated standard error, from no more Hessian-vector products than that takes.

`lla.criteria` makes the same number of products for every model. Here probes and batches are added
until the error is as small as asked for, and as much as possible is read from each of them:

- r_e is one number a Hessian, the same from every probe once the outermost Ritz values have
  converged. One probe a batch is enough, and its run ends when the residuals are small enough.
- K_H1 is the mean over probes of a ratio with a large scatter. Most of the scatter comes from the
  parts of a probe along a few outlying eigenvectors. The run resolves these, and the ratio is then
  averaged over them without a product (`lla.hessian.lanczos.outliers`).
- K_H1 from a short run has an error: its quadrature is inexact at the kink of |x|. The share of the
  negative part that is lacking is nearly the same for every probe. The first run makes all its
  steps and shows that share after every step; the others stop early and are corrected by it
  (multilevel Monte Carlo, Giles 2015). So the quantity is still that of `steps` steps.
- K_H05 depends on the steps by definition, so for it every run makes all of them.

A further batch always tells more than a further probe on a batch that was measured already, because
more probes do not reduce how far that batch is from the mean. So each batch gets one probe (the
first one two), in the order given. When there are no more batches, further probes follow in turn.
If not even exact values on these batches would reach the target, the measurement ends and says so.

A rule that stops when an estimated error is small prefers to stop where the error is
underestimated. So what has to reach the target is not the standard error but half the 95 % interval
by Student's t, relative to that of a normal number: with four batches the standard error has to be
1.6 times smaller than with many. No decision is made on fewer than four batches, or four
differences between probes. Chow and Robbins (1965) have the theory of such rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from operator import itemgetter

import numpy as np

from lla.errors import InputError
from lla.estimate import Estimate
from lla.hessian.accuracy import MIN_SAMPLES, Spread, reached, shortfall, spread
from lla.hessian.criteria.goal import Accuracy, Adaptive, Goal, Stopped
from lla.hessian.lanczos.outliers import MAX_OUTLIERS, NO_OUTLIERS, Averages, Outliers, outliers
from lla.hessian.lanczos.process import Lanczos
from lla.hessian.lanczos.runs import Run, run_until
from lla.hessian.memory.batch_hessians import BatchHessians
from lla.hessian.memory.plans import Plan
from lla.hessian.operator import HessianOperator
from lla.hessian.ratios import probe_ratios
from lla.hessian.spectrum import Spectrum
from lla.parameters import ParameterSpace
from lla.probes import rademacher
from lla.progress_bars import tqdm


def measure(
    hessians: BatchHessians, goal: Goal, progress: bool = False
) -> tuple[dict[str, Estimate], tuple[Spectrum, ...], Adaptive]:
    """Measure the criteria that have a target until all are met or nothing is left to add.

    Args:
        hessians: the Hessians.
        goal: what is asked for.
        progress: show a progress bar.

    Returns:
        The estimates of the criteria that were measured, the spectrum of each Hessian that was
        measured, and how it went.

    Raises:
        InputError: the first run alone takes more products than are allowed; a probe has no
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
    statistics = RunStatistics(goal, hessians.count, hessians.space)
    ranks, rounds = hessians.ranks, hessians.rounds()
    with tqdm(desc="Lanczos", unit="product", disable=not progress) as bar:
        while True:
            own = hessians.problems()
            for first, owners in rounds:
                made = None
                with ranks.agreed():
                    if ranks.rank in owners:
                        index, problem = next(own)
                        place = first + owners.index(ranks.rank)
                        if statistics.wanted(place):
                            work = partial(
                                statistics.new_runs, index=place, stream=index, on_step=bar.update
                            )
                            made = place, *hessians.run(problem, work)
                # in the order of one process, which would not have made those after the last
                new = sorted(filter(None, ranks.gathered(made)), key=itemgetter(0))
                for place, (runs, found), plan in new:
                    statistics.add(place, runs, found, plan)
                    stopped = statistics.stopped()
                    if stopped is not None:
                        return statistics.measured(stopped)


def enough_steps(run: Run, goal: Goal) -> int:
    """The least number of steps of further runs, from a run with all steps.

    The bound from a short run is too low. With this number of steps, the share of the negative
    part that it lacks is at most the standard error asked for. The mean of what runs lack is
    added; what differs from run to run is then a fraction of the standard error.

    Where K_H1 is near 1, the ratio changes less than the negative part, and fewer steps would be
    enough. But batches differ: where the first one has a K_H1 near 1 and others have a small one,
    that rule gave values 9 % too low with an error of 4 %.
    """
    if goal.whole_runs:
        return goal.steps
    if not goal.wants_kh1:
        return min(FIRST_LOOK, goal.steps)
    allowed, count = goal.targets["kh1"] * (run.positive - run.form), len(run.alphas)
    return next((n for n in range(2, count) if run.missing(n) <= allowed), count)


class RunStatistics:
    """All runs so far, the estimates that follow from them, and what to do next.

    Args:
        goal: what is asked for.
        count: number of Hessians.
        space: the parameters of each.

    Attributes:
        runs: the runs on each Hessian.
        least: the least number of steps of the next run, by the very first one.
    """

    def __init__(self, goal: Goal, count: int, space: ParameterSpace) -> None:
        self.goal = goal
        self.runs: list[list[Run]] = [[] for _ in range(count)]
        corrects = goal.wants_kh1 or goal.whole_runs
        self.least = goal.steps if corrects else min(FIRST_LOOK, goal.steps)
        self._least_on = [0] * count  # of each Hessian, by its own whole runs
        self._outliers: list[Outliers] = []
        self._plans: list[str] = [""] * count
        self._size, self._dtype = space.size, str(space.dtype).removeprefix("torch.")
        self._missing: dict[tuple[int, int, int], float] = {}
        self._spreads: dict[str, Spread] = {}  # valid as long as no run is added

    @property
    def matvecs(self) -> int:
        """Products made so far."""
        return sum(run.matvecs for runs in self.runs for run in runs)

    @property
    def left(self) -> int:
        """Products that may still be made."""
        return self.goal.max_matvecs - self.matvecs

    @property
    def visited(self) -> list[list[Run]]:
        """The runs on each Hessian that has any; these Hessians are the first."""
        return [runs for runs in self.runs if runs]

    @property
    def settled(self) -> bool:
        """Whether r_e has converged in the first run on every Hessian."""
        return all(runs[0].re_within(self.goal.re_tolerance) for runs in self.visited)

    @property
    def averaged(self) -> tuple[int, int]:
        """How many outliers at most, positive and negative, are averaged over on each Hessian.

        A repeated eigenvalue has a space of eigenvectors, of which a run sees one. Such an outlier,
        and those further inside, are left out. Second probes show it. The network's structure
        causes repetition, so it occurs on nearly all batches or on none. If a single probe among
        many disagrees, its run was too short.
        """
        if not self.goal.deflates:
            return 0, 0
        pairs = zip(self.visited, self._outliers, strict=True)
        checks = [found.agree(*runs[1].ritz[:2]) for runs, found in pairs if len(runs) > 1]
        if not checks:
            return MAX_OUTLIERS, MAX_OUTLIERS
        upper, lower = (sorted(side)[len(checks) // 4] for side in zip(*checks, strict=True))
        return upper, lower

    def wanted(self, index: int) -> int:
        """Number of probes to add to one Hessian now."""
        goal, have = self.goal, len(self.runs[index])
        amount = 1
        if have == 0 and index == 0 and goal.deflates:
            amount = 2  # the second checks the outliers
        elif have > 0 and goal.over == "probes":
            amount = self._missing_probes(have)
        return min(amount, goal.probes - have)

    def new_runs(
        self,
        operator: HessianOperator,
        plan: Plan,
        index: int,
        stream: int,
        on_step: Callable[[int], object],
    ) -> tuple[list[Run], Outliers]:
        """Make the runs that are wanted on one Hessian, as far as the allowed products reach.

        Args:
            operator: the Hessian.
            plan: gives the storage of the basis.
            index: when its turn came.
            stream: number of the batch, by which random vectors are drawn.
            on_step: called with the products of each step.

        Returns:
            The runs, and the outliers of the first run.
        """
        goal, left, settled = self.goal, self.left, self.settled
        least = max(self.least, self._least_on[index])
        have, like = len(self.runs[index]), operator.theta
        runs: list[Run] = []
        found = NO_OUTLIERS
        for probe in range(have, have + self.wanted(index)):
            if runs and left < least:
                break
            most = min(goal.steps, left)
            start = rademacher(self._size, like, goal.seed, stream, probe)[None]
            lanczos = Lanczos(
                operator, start, most, plan.basis_dtype, plan.basis_device, operator.ranks
            )
            # once it has converged, r_e is the same from every probe
            tolerance = math.inf if settled and probe > 0 else goal.re_tolerance
            run = run_until(lanczos, least, most, goal.steps, tolerance, on_step)
            if not self.visited and not runs:
                least = enough_steps(run, goal)
            if probe == 0 and goal.deflates:
                second = rademacher(self._size, like, goal.seed, stream, 1)
                found = outliers(lanczos, min(least, len(run.alphas)), second, goal.seed, stream)
            runs.append(run)
            left -= run.matvecs
        return runs, found

    def add(self, index: int, runs: list[Run], found: Outliers, plan: str) -> None:
        """Add new runs on one Hessian and the outliers of the first, made under a plan."""
        if not self.visited:
            self.least = enough_steps(runs[0], self.goal)
        if not self.runs[index]:
            self._outliers.append(found)
        self.runs[index] += runs
        own = [enough_steps(run, self.goal) for run in runs if run.whole]
        self._least_on[index] = max([self._least_on[index], *own])
        self._plans[index] = plan
        self._spreads.clear()

    def stopped(self) -> Stopped | None:
        """The reason to stop now; None if there is none."""
        goal = self.goal
        unmet = [name for name in goal.targets if not self._met(name)]
        if not unmet:
            return "targets"
        complete = len(self.visited) == len(self.runs)
        if complete and goal.over == "batches" and all(map(self._out_of_reach, unmet)):
            return "batches"
        if all(len(runs) >= goal.probes for runs in self.runs):
            return "probes"
        return "budget" if self.left < max(self.least, *self._least_on) else None

    def measured(
        self, stopped: Stopped
    ) -> tuple[dict[str, Estimate], tuple[Spectrum, ...], Adaptive]:
        """The result, see `measure`."""
        names = [*self.goal.targets, *(["negative_share"] if self.goal.wants_kh1 else [])]
        spreads = {name: self._spread(name) for name in names}
        estimates = {}
        for name, found in spreads.items():
            samples = len(self.visited) if found.dof == math.inf else int(found.dof) + 1
            estimates[name] = Estimate(found.value, found.stderr, samples, self.matvecs)
        adaptive = Adaptive(
            stopped=stopped,
            accuracy={name: self._accuracy(name, found) for name, found in spreads.items()},
            probes=tuple(len(runs) for runs in self.visited),
            averaged=self.averaged,
        )
        return estimates, tuple(map(self._spectrum, range(len(self.visited)))), adaptive

    def _accuracy(self, name: str, found: Spread) -> Accuracy:
        def relative(error: float | None) -> float:
            return math.inf if error is None or not found.value else error / abs(found.value)

        target = self.goal.targets.get(name)
        missed = target is not None and not self._met(name)
        return Accuracy(
            target=target,
            reached=relative(found.stderr),
            compared=relative(found.safe_stderr),
            shortfall=self._shortfall(name, found) if missed else None,
            interval=found.interval,
            probes=found.within,
            batches=found.between if self.goal.over == "batches" else None,
        )

    def _shortfall(self, name: str, found: Spread) -> str:
        """Why a target is not met."""
        target, count = self.goal.targets[name], len(self.visited)
        if self.goal.over == "probes" and count < len(self.runs):
            return f"that of {count} of the {len(self.runs)} batches, and all were asked for"
        return shortfall(found, target)

    def _spread(self, name: str) -> Spread:
        """The mean of a criterion and its error."""
        if name not in self._spreads:
            averaged = name in ("kh1", "negative_share")
            self._spreads[name] = (self._of_averages if averaged else self._of_probes)(name)
        return self._spreads[name]

    def _of_probes(self, name: str) -> Spread:
        """Mean and error of r_e or K_H05, of which every run gives a value."""
        samples, within = [], None
        place, tolerance = (0, self.goal.re_tolerance) if name == "re" else (2, math.inf)
        for runs in self.visited:
            used = [run for run in runs if run.whole or run.re_within(tolerance)] or runs[:1]
            samples.append(np.array([self._ratios(run)[place] for run in used]))
        if name == "re" and self.settled:
            within = float(np.mean([runs[0].re_error() for runs in self.visited]))
        return spread(samples, self.goal.over, within)

    def _of_averages(self, name: str) -> Spread:
        """Mean and error of K_H1 or the negative share, which are averaged over outliers."""
        samples, variances, (upper, lower) = [], [], self.averaged
        for index, (known, runs) in enumerate(zip(self._outliers, self.visited, strict=True)):
            chosen = known.first(upper, lower)
            averages = [self._average(index, run, chosen) for run in runs]
            pairs = [
                (a.kh1, a.kh1_variance) if name == "kh1" else (a.share, a.share_variance)
                for a in averages
            ]
            values, scatter = np.array(pairs).T
            samples.append(values)
            variances.append(scatter.mean() / len(runs))
        # otherwise the denominator varies too much for the scatter of the ratio to be predicted
        within = math.sqrt(sum(variances)) / len(variances) if upper else None
        return spread(samples, self.goal.over, within)

    def _ratios(self, run: Run) -> tuple[float, float, float, float]:
        """The ratios of one run without averaging; an error if no eigenvalue is positive."""
        eps = float(np.finfo(self._dtype).eps)
        return probe_ratios(*run.ritz[:2], eps, self.goal.reading)

    def _average(self, index: int, run: Run, known: Outliers) -> Averages:
        """K_H1 and the negative share of one run."""
        self._ratios(run)
        return known.average(*run.ritz[:2], self._positive(index, run), run.form, self._size)

    def _positive(self, index: int, run: Run) -> float:
        """The positive part v' H+ v of one probe, as a run with all steps would give it."""
        if run.whole:
            return run.positive
        return run.bound + self._missing_share(index, len(run.alphas)) * (run.bound - run.form)

    def _missing_share(self, index: int, steps: int) -> float:
        """What the negative part lacks after some steps, relative to what is there of it.

        From the whole runs on this Hessian; without any, from those on all Hessians that lack less
        than half. Relative, because Hessians of different batches may differ in size by orders of
        magnitude.
        """
        whole = [r for runs in self.runs for r in runs if r.whole]
        key = (index, steps, len(whole))
        if key not in self._missing:
            own = [r for r in self.runs[index] if r.whole]
            lacks = [r.missing_share(steps) for r in own or whole]
            lacks = lacks if own else [share for share in lacks if share < 0.5] or lacks
            mean = min(float(np.mean(lacks)), _MOST_MISSING) if lacks else 0.0
            self._missing[key] = mean / (1 - mean)
        return self._missing[key]

    def _met(self, name: str) -> bool:
        """Whether a target is known to be met."""
        if self.goal.over == "probes" and len(self.visited) < len(self.runs):
            return False
        target = self.goal.targets[name]
        return reached(self._spread(name), target, self.goal.over, self._dtype)

    def _out_of_reach(self, name: str) -> bool:
        """Whether a target would be missed even with exact values on all batches."""
        found = self._spread(name)
        if len(self.runs) < MIN_SAMPLES:
            return True
        if found.between is None or found.within_dof < MIN_SAMPLES:
            return False
        return found.factor * found.between > self.goal.targets[name] * abs(found.value)

    def _missing_probes(self, have: int) -> int:
        """Estimate of how many more probes a Hessian with `have` probes needs."""
        worst = 0.0  # error / allowed error
        for name in self.goal.targets:
            found = self._spread(name)
            if found.safe_stderr is not None and found.value:
                worst = max(worst, found.safe_stderr / (self.goal.targets[name] * abs(found.value)))
        # the error over several Hessians goes with the harmonic mean of their numbers of probes
        mean = len(self.runs) / sum(1 / len(runs) for runs in self.runs)
        needed = math.ceil(mean * worst**2) if worst > 1 else math.floor(mean) + 1
        return max(0, needed - have)

    def _spectrum(self, index: int) -> Spectrum:
        """The runs on one Hessian as a spectrum; each row has the nodes of its run."""
        runs = self.runs[index]
        return Spectrum.of(
            [run.ritz[:2] for run in runs],
            steps=max(len(run.alphas) for run in runs),
            size=self._size,
            seed=self.goal.seed,
            dtype=self._dtype,
            legacy=False,
            matvecs=sum(run.matvecs for run in runs),
            plan=self._plans[index],
        )


FIRST_LOOK = 10  # steps before the convergence of r_e is tested
_MOST_MISSING = 0.9  # of the negative part: so little is there of it that more is not known
