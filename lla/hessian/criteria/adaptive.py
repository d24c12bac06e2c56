"""Criteria to a stated standard error, from no more Hessian-vector products than that takes.

`lla.criteria` makes the same number of products for every model. Here probes and batches are added
until the error is as small as asked for, and as much as possible is read from each of them:

- r_e is one number a Hessian, the same from every probe once the outermost Ritz values have
  converged. One probe a batch is enough, and its run ends when the residuals are small enough.
- K_H1 is the mean over probes of a ratio with a large scatter. Most of the scatter comes from the
  parts of a probe along a few outlying eigenvectors. The run resolves these, and the ratio is then
  averaged over them without a product (`lla.hessian.lanczos.outliers`).
- K_H1 from a short run has an error: its quadrature is inexact at the kink of |x|. The error is
  nearly the same for every probe. The first run makes all its steps and shows how large the error
  is after which step; the others stop early and are corrected by it (multilevel Monte Carlo, Giles
  2015). So the quantity is still that of `steps` steps.
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

from tqdm.auto import tqdm

from lla.errors import InputError
from lla.hessian.criteria.goal import Goal, Measured
from lla.hessian.criteria.run_statistics import NewRuns, RunStatistics, enough_steps
from lla.hessian.lanczos.outliers import NO_OUTLIERS, outliers
from lla.hessian.lanczos.process import Lanczos
from lla.hessian.lanczos.runs import Run, run_until
from lla.hessian.memory.batch_hessians import BatchHessians
from lla.hessian.memory.plans import Plan
from lla.hessian.operator import HessianOperator
from lla.probes import rademacher


def measure(hessians: BatchHessians, count: int, goal: Goal, progress: bool = False) -> Measured:
    """Measure the criteria that have a target until all are met or nothing is left to add.

    Args:
        hessians: the Hessians.
        count: number of Hessians.
        goal: what is asked for.
        progress: show a progress bar.

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
    statistics = RunStatistics(goal, count)
    with tqdm(desc="Lanczos", unit="product", disable=not progress) as bar:
        while True:
            for index, problem in enumerate(hessians.problems()):
                if statistics.wanted(index) == 0:
                    continue
                work = partial(_new_runs, statistics=statistics, index=index, on_step=bar.update)
                found, plan = hessians.run(problem, work)
                statistics.add(index, found, plan)
                stopped = statistics.stopped()
                if stopped is not None:
                    return statistics.measured(stopped)


def _new_runs(
    operator: HessianOperator,
    plan: Plan,
    *,
    statistics: RunStatistics,
    index: int,
    on_step: Callable[[int], object],
) -> NewRuns:
    """Make the runs that are wanted on one Hessian, as far as the allowed products reach."""
    goal, least, left = statistics.goal, statistics.least, statistics.left
    have, settled = len(statistics.runs[index]), statistics.settled
    size, like = operator.shape[0], operator.theta
    runs: list[Run] = []
    found = NO_OUTLIERS
    for probe in range(have, have + statistics.wanted(index)):
        if runs and left < least:
            break
        most = min(goal.steps, left)
        start = rademacher(size, like, goal.seed, index, probe)[None]
        lanczos = Lanczos(operator, start, most, plan.basis_dtype, plan.basis_device)
        # once it has converged, r_e is the same from every probe
        tolerance = math.inf if settled and probe > 0 else goal.re_tolerance
        run = run_until(lanczos, least, most, goal.steps, tolerance, on_step)
        if not statistics.visited and not runs:
            least = enough_steps(run, goal)
        if probe == 0 and goal.deflates:
            second = rademacher(size, like, goal.seed, index, 1)
            count = min(least, len(run.alphas))
            found = outliers(lanczos, count, second, goal.seed, index)
        runs.append(run)
        left -= run.matvecs
    return NewRuns(runs, found, size, str(operator.dtype).removeprefix("torch."))
