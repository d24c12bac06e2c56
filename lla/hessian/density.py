"""The spectral density of a Hessian within the available memory, to a target if there is one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from lla.arguments import number_of_draws, number_of_steps, seed_number, whole_number
from lla.hessian.accuracy import MIN_SAMPLES, StandardErrors, reached, shortfall, spread, targets_of
from lla.hessian.memory import plans
from lla.hessian.memory.plans import BasisPlan, Memory, Plan, memory_settings
from lla.hessian.operator import HessianOperator, check_operator
from lla.hessian.quadrature import clamped, quadrature
from lla.hessian.ratios import spectrum_criteria
from lla.hessian.spectrum import Spectrum, joined
from lla.hessian.symmetric import SymmetricOperator
from lla.problem import Problem


def spectral_density(
    operator: SymmetricOperator,
    probes: int = 10,
    steps: int = 100,
    seed: int = 0,
    *,
    legacy: bool = False,
    stream: int = 0,
    together: int = 1,
    memory: Memory | int | None = None,
    target_stderr: StandardErrors | None = None,
    progress: bool = False,
) -> Spectrum:
    """Spectral density of a Hessian by stochastic Lanczos quadrature.

    From each Rademacher probe, `steps` Lanczos steps with full reorthogonalisation; the tridiagonal
    matrix is diagonalised in float64 (Golub and Welsch 1969). A run that exhausts its Krylov space
    ends with fewer nodes. If the computation should not fit into memory, or runs out of it, a plan
    that needs less memory is taken, see `lla.hessian.memory.plans`. Ctrl-C ends the call, and
    nothing of it is kept.

    Args:
        operator: the Hessian, or any other `lla.hessian.symmetric.SymmetricOperator`.
        probes: number of random start vectors (the paper's n_hes).
        steps: Lanczos steps a probe (m); more than P are reduced to P, with a warning.
        seed: of the probes; probe i is the same vector for every number of probes.
        legacy: imitate the authors' public code instead, see `lla.hessian.lanczos.legacy`.
        stream: a second index of the probes' seed, so that batches get probes of their own.
        together: probes that advance at the same time; each needs a Lanczos basis.
        memory: bytes to take on the operator's device (what is available by default), or a
            `lla.Memory`, which also says how the Lanczos vectors are stored.
        target_stderr: add probes until the standard error over probes of r_e and K_H1, relative to
            their means, is at most this; or a mapping, see `lla.criteria`. `probes` is then the
            maximum; if they are too few, there is a warning. For the criteria alone,
            `lla.criteria` needs far fewer products.
        progress: show a progress bar.

    Raises:
        InputError: fewer probes or steps than one, more than a million probes or ten thousand
            steps; a type or device of the basis with `legacy`, which keeps no basis; a target that
            is not positive, of an unknown criterion, or with `legacy`.
        NonFiniteError: a product is not finite.
        InsufficientMemoryError: it fits into memory by no plan.
    """
    check_operator("spectral_density", operator)
    probes, steps = number_of_draws("probes", probes), number_of_steps(steps)
    together = min(whole_number("together", together, 1), probes)
    seed, stream = seed_number(seed), whole_number("stream", stream, 0)
    targets = None if target_stderr is None else targets_of(target_stderr, legacy)
    steps = clamped(steps, operator.shape[0])
    operator.agree_on(probes=probes, steps=steps, seed=seed, stream=stream, legacy=legacy)
    limits = memory_settings(memory)
    vectors = 0 if legacy else steps
    asked: Plan
    problem: Problem | None = None
    if isinstance(operator, HessianOperator):
        asked, problem, space = (
            Plan.of(limits, route=operator.route),
            operator.problem,
            operator.space,
        )
        # a kept graph is in memory already
        example = plans.bytes_an_example(problem, space) if asked.route == "fresh" else 0.0
        cost = plans.cost_of(problem, space, vectors, example, together)
    else:
        asked = BasisPlan.of(limits)
        cost = plans.cost_of_basis(operator.shape[0], operator.dtype, vectors, together)

    def run(plan: Plan) -> Spectrum:
        make = partial(
            quadrature,
            _under(operator, plan, asked),
            plan,
            steps=steps,
            seed=seed,
            legacy=legacy,
            stream=stream,
            together=together,
            progress=progress,
        )
        return make(probes) if targets is None else _until_reached(make, probes, targets)

    candidates = plans.plans(problem, asked, cost, limits.bytes, operator.device)
    candidates = plans.common(candidates, operator.ranks)
    spectrum, plan, failed = plans.try_plans(run, candidates, operator.device)
    return replace(spectrum, plan=plans.describe(plan, asked, failed))


def _under(operator: SymmetricOperator, plan: Plan, asked: Plan) -> SymmetricOperator:
    """The operator with products as a plan makes them."""
    same = (plan.micro_batch, plan.route) == (asked.micro_batch, asked.route)
    if same or not isinstance(operator, HessianOperator):
        return operator
    return operator.without_kept_graphs(plan.micro_batch)


def _until_reached(
    make: Callable[..., Spectrum], probes: int, targets: Mapping[str, float]
) -> Spectrum:
    """A spectrum with enough probes for the targets, tested whenever their number grew by a fifth.

    Args:
        make: number of probes, index of the first -> their spectrum.
        probes: at most.
        targets: criterion -> standard error relative to its mean.
    """
    spectrum = make(min(probes, MIN_SAMPLES + 1))
    while True:
        found = spectrum_criteria(spectrum)
        errors = {name: spread([getattr(found, name)], "probes") for name in targets}
        missed = [
            n for n, e in errors.items() if not reached(e, targets[n], "probes", spectrum.dtype)
        ]
        if not missed:
            return spectrum
        if spectrum.probes >= probes:
            name = missed[0]
            warnings.warn(
                f"after {spectrum.probes} probes {name} is {errors[name].value:.3g} and its "
                f"standard error is {shortfall(errors[name], targets[name])}: raise probes",
                stacklevel=5,
            )
            return spectrum
        more = min(max(1, spectrum.probes // 5), probes - spectrum.probes)
        spectrum = joined(spectrum, make(more, first=spectrum.probes))
