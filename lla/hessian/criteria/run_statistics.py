"""All Lanczos runs of a measurement with a target: what they amount to, and what to do next."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lla.estimate import Estimate
from lla.hessian.accuracy.spread import Spread, spread
from lla.hessian.accuracy.targets import MIN_SAMPLES, reached
from lla.hessian.criteria.goal import Accuracy, Adaptive, Goal, Measured, Stopped
from lla.hessian.lanczos.outliers import Averages, Outliers
from lla.hessian.lanczos.runs import Run
from lla.hessian.ratios import probe_ratios
from lla.hessian.spectrum import Spectrum


@dataclass(frozen=True)
class NewRuns:
    """The runs that were added on one Hessian at once."""

    runs: list[Run]
    outliers: Outliers  # of the first run
    size: int  # P
    dtype: str


def enough_steps(run: Run, goal: Goal) -> int:
    """The least number of steps of further runs, from the very first run.

    The bound from a short run is too low. With this number of steps, the share of the negative
    part that it lacks is at most the standard error asked for. The mean of what runs lack is
    added; what differs from run to run is then a fraction of the standard error.
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

    Attributes:
        runs: the runs on each Hessian.
        least: the least number of steps of the next run.
    """

    def __init__(self, goal: Goal, count: int) -> None:
        self.goal = goal
        self.runs: list[list[Run]] = [[] for _ in range(count)]
        corrects = goal.wants_kh1 or goal.whole_runs
        self.least = goal.steps if corrects else min(FIRST_LOOK, goal.steps)
        self._outliers: list[Outliers] = []
        self._plans: list[str] = [""] * count
        self._size, self._dtype = 0, "float64"
        self._missing: dict[tuple[int, int], float] = {}
        self._spreads: dict[str, Spread] = {}  # as long as no run is added

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
    def simple(self) -> tuple[bool, bool]:
        """Whether all outliers, the positive and the negative, are simple by their second probes.

        A repeated eigenvalue has a space of eigenvectors, of which a run sees one. The network's
        structure causes repetition, so it occurs on nearly all batches or on none. If a single
        probe among many disagrees, its run was too short.
        """
        pairs = zip(self.visited, self._outliers, strict=True)
        checks = [found.agree(*runs[1].ritz[:2]) for runs, found in pairs if len(runs) > 1]
        allowed = len(checks) // 4
        upper, lower = (sum(not c[side] for c in checks) <= allowed for side in (0, 1))
        return self.goal.deflates and upper, self.goal.deflates and lower

    def wanted(self, index: int) -> int:
        """Number of probes to add to one Hessian now."""
        goal, have = self.goal, len(self.runs[index])
        amount = 1
        if have == 0 and index == 0 and goal.deflates:
            amount = 2  # the second checks the outliers
        elif have > 0 and goal.over == "probes":
            amount = self._missing_probes(have)
        return min(amount, goal.probes - have)

    def add(self, index: int, found: NewRuns, plan: str) -> None:
        """Add new runs on one Hessian, made under a plan."""
        if not self.visited:
            self.least = enough_steps(found.runs[0], self.goal)
            self._size, self._dtype = found.size, found.dtype
        if not self.runs[index]:
            self._outliers.append(found.outliers)
        self.runs[index] += found.runs
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
        """Mean and error of r_e or K_H05, of which every run gives a value."""
        samples, within = [], None
        for runs in self.visited:
            ratios = [self._ratios(run) for run in self._converged_runs(name, runs)]
            samples.append(np.array([r[0] if name == "re" else r[2] for r in ratios]))
        if name == "re" and self.settled:
            within = float(np.mean([runs[0].re_error() for runs in self.visited]))
        return spread(samples, self.goal.over, within)

    def _of_averages(self, name: str) -> Spread:
        """Mean and error of K_H1 or the negative share, which are averaged over outliers."""
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
        # otherwise the denominator varies too much for the scatter of the ratio to be predicted
        within = math.sqrt(sum(variances)) / len(variances) if upper else None
        return spread(samples, self.goal.over, within)

    def _converged_runs(self, name: str, runs: list[Run]) -> list[Run]:
        """The runs on one Hessian from which a criterion is taken."""
        if name != "re":
            return runs
        tolerance = self.goal.re_tolerance
        return [run for run in runs if run.whole or run.re_within(tolerance)] or runs[:1]

    def _ratios(self, run: Run) -> tuple[float, float, float, float]:
        """The ratios of one run without averaging; an error if no eigenvalue is positive."""
        eps = float(np.finfo(self._dtype).eps)
        return probe_ratios(*run.ritz[:2], eps, self.goal.reading)

    def _average(self, run: Run, known: Outliers) -> Averages:
        """K_H1 and the negative share of one run."""
        self._ratios(run)
        return known.average(*run.ritz[:2], self._positive(run), run.form, self._size)

    def _positive(self, run: Run) -> float:
        """The positive part v' H+ v of one probe, as a run with all steps would give it."""
        if run.whole:
            return run.positive
        whole, steps = [r for runs in self.runs for r in runs if r.whole], len(run.alphas)
        key = (steps, len(whole))
        if key not in self._missing:
            self._missing[key] = float(np.mean([other.missing(steps) for other in whole]))
        return run.bound + self._missing[key]

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
        """Number of probes that a Hessian with `have` probes still needs, by what is known now."""
        worst = 0.0  # error in units of the error that is allowed
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


FIRST_LOOK = 10  # steps before the convergence of r_e is tested
