"""Commands on the spectrum of the Hessian: criteria, spectrum, eigenpairs, trace."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from tabulate import tabulate

import lla
from lla.arguments import number_of_draws, number_of_steps, positive_number, whole_number
from lla.cli.command import Files, Given, Outcome, measuring, picture, result_files
from lla.errors import InputError
from lla.hessian.accuracy import Over
from lla.hessian.eigenpairs import Which
from lla.hessian.ratios import Reading

Probes = Annotated[int, typer.Option(help="Random vectors (n_hes).")]
Steps = Annotated[int, typer.Option(min=1, help="Lanczos steps (m).")]
Parameters = Annotated[
    list[str] | None, typer.Option(help="Parameters to take: glob or re:...; repeatable.")
]


@measuring(batches=2, earlier=["spectrum*"], together=True)
def criteria(
    given: Given,
    probes: Annotated[int, typer.Option(help="Random vectors for each batch (n_hes).")] = 10,
    steps: Steps = 100,
    reading: Annotated[
        Reading,
        typer.Option(help="K_H05: product takes the root of the weight, too; density does not."),
    ] = "product",
    legacy: Annotated[
        bool, typer.Option(help="Imitate the public code of arXiv:2412.10146.")
    ] = False,
    pooled: Annotated[bool, typer.Option(help="Take one Hessian of all batches together.")] = False,
    parameters: Parameters = None,
    micro_batch: Annotated[
        int | None, typer.Option(min=1, help="Images in each part of a batch; eval mode only.")
    ] = None,
    target_stderr: Annotated[
        float | None,
        typer.Option(
            help="Relative error to reach in K_H1 and r_e; probes, steps, batches become limits."
        ),
    ] = None,
    over: Annotated[
        Over | None, typer.Option(help="What --target-stderr is measured over (default: batches).")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Folder that keeps finished batches, to go on from there.")
    ] = None,
) -> Outcome:
    """Compute r_e, K_H1 and K_H05 of a network on a data set, with standard errors."""
    if over is not None and target_stderr is None:
        raise InputError("--over says what --target-stderr is over: give both, or neither")
    number_of_draws("probes", probes)
    number_of_steps(steps)
    target = None if target_stderr is None else lla.Target(target_stderr, over or "batches")
    inputs = given.load()
    result = lla.criteria(
        inputs.model,
        inputs.batches,
        mode=given.mode,
        probes=probes,
        steps=steps,
        seed=given.seed,
        reading=reading,
        legacy=legacy,
        scope="pooled" if pooled else "batches",
        parameters=parameters or None,
        micro_batch=micro_batch,
        target_stderr=target,
        precision=given.precision,
        checkpoint=checkpoint,
        progress=given.progress,
    )
    named = {"r_e": result.re, "K_H1": result.kh1, "K_H05": result.kh05}
    named["negative share"] = result.negative_share
    # with a target some are not measured
    rows = [(label, found.value, found.stderr) for label, found in named.items() if found.n]
    text = tabulate(rows, headers=("criterion", "value", "stderr"), floatfmt=".4g") + (
        f"\n\nloss {result.loss:.4g}; {result.probes} probes, {result.steps} steps, "
        f"{result.dtype}, {result.reading} reading{', legacy' if legacy else ''}; standard error "
        f"over {result.stderr_kind}; {result.matvecs} products by the {result.route} route\n"
        f"plan: {result.plan}"
    )
    if target_stderr is not None:
        word = "met" if result.converged else "not met, see the warning"
        text += f"\nstandard error of {target_stderr:g}: {word}; probes and steps are the most"
    estimates = {
        "re": result.re, "kh1": result.kh1, "kh05": result.kh05,
        "negative_share": result.negative_share,
    }  # fmt: skip
    numbers = {
        **{name: found for name, found in estimates.items() if found.n},
        "loss": result.loss, "probes": result.probes, "steps": result.steps,
        "stderr_kind": result.stderr_kind, "reading": result.reading, "legacy": legacy,
        "matvecs": result.matvecs, "converged": result.converged,
    }  # fmt: skip
    first = result.spectra[0]
    files: Files = {
        **{f"spectrum_{i}.npz": each.save for i, each in enumerate(result.spectra)},
        "spectrum.png": picture(given, first.plot, label="batch 0"),
    }
    return Outcome(inputs, text, numbers, files)


@measuring(together=True)
def spectrum(
    given: Given, probes: Probes = 10, steps: Steps = 100, parameters: Parameters = None
) -> Outcome:
    """Compute the spectral density of the Hessian of all batches together, and draw it."""
    number_of_draws("probes", probes)
    number_of_steps(steps)
    inputs = given.load()
    operator = lla.HessianOperator(given.problem(inputs), parameters or None)
    found = lla.spectral_density(operator, probes, steps, given.seed, progress=given.progress)
    # padding of short runs has the weight 0
    values = found.eigenvalues[found.weights > 0]
    moments = {f"moment_{k}": lla.Estimate.of(found.moment(k), found.matvecs) for k in (1, 2)}
    numbers = {
        "parameters": found.size, "smallest": float(values.min()), "largest": float(values.max()),
        **moments, "probes": probes, "steps": steps, "matvecs": found.matvecs,
    }  # fmt: skip
    text = (
        f"eigenvalues from {values.min():.4g} to {values.max():.4g} of {found.size} parameters\n"
        f"mean {moments['moment_1']}, mean square {moments['moment_2']}\n"
        f"{probes} probes, {steps} steps, {found.matvecs} products by the {operator.route} route"
    )
    return Outcome(inputs, text, numbers, result_files(given, "spectrum", found))


@measuring(together=True)
def eigenpairs(
    given: Given,
    k: Annotated[int, typer.Option(help="Number of eigenvalues.")] = 2,
    which: Annotated[
        Which, typer.Option(help="LA largest, SA smallest, LM largest in magnitude, BE both ends.")
    ] = "LA",
    tol: Annotated[float, typer.Option(help="Relative residual to reach.")] = 1e-4,
    max_steps: Annotated[int, typer.Option(min=1, help="Lanczos steps at most.")] = 300,
    parameters: Parameters = None,
) -> Outcome:
    """Compute the most extreme eigenvalues of the Hessian and their vectors."""
    whole_number("k", k, 1)
    positive_number("tol", tol)
    inputs = given.load()
    operator = lla.HessianOperator(given.problem(inputs), parameters or None)
    found = lla.top_eigenpairs(
        operator, k, which, given.seed, tol=tol, max_steps=max_steps, progress=given.progress
    )
    rows = [
        (i + 1, value, residual)
        for i, (value, residual) in enumerate(zip(found.values, found.residuals, strict=True))
    ]
    state = "converged" if found.converged else "not converged: raise --max-steps"
    text = tabulate(rows, headers=("rank", "eigenvalue", "residual"), floatfmt=".4g") + (
        f"\n\n{state}; {found.matvecs} products by the {operator.route} route"
    )
    numbers = {
        "values": found.values, "residuals": found.residuals, "converged": found.converged,
        "which": which, "matvecs": found.matvecs,
    }  # fmt: skip
    return Outcome(inputs, text, numbers, result_files(given, "eigenpairs", found))


@measuring(together=True)
def trace(
    given: Given,
    method: Annotated[
        Literal["hutchinson", "hutch++"],
        typer.Option(help="hutch++ needs fewer products where few eigenvalues dominate."),
    ] = "hutchinson",
    rtol: Annotated[float, typer.Option(help="Relative standard error to reach.")] = 0.05,
    max_matvecs: Annotated[int, typer.Option(min=2, help="Hessian products at most.")] = 1000,
    parameters: Parameters = None,
) -> Outcome:
    """Compute the trace of the Hessian, with its standard error."""
    positive_number("rtol", rtol)
    inputs = given.load()
    operator = lla.HessianOperator(given.problem(inputs), parameters or None)
    found = lla.trace(operator, method, rtol, max_matvecs, given.seed, progress=given.progress)
    text = (
        f"trace {found} of {operator.shape[0]} parameters\n"
        f"{found.n} samples, {found.matvecs} products by the {operator.route} route"
    )
    numbers = {
        "trace": found, "parameters": operator.shape[0], "method": method,
        "matvecs": found.matvecs,
    }  # fmt: skip
    return Outcome(inputs, text, numbers)
