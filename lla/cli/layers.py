"""Commands on single layers: flatness, layerwise."""

from __future__ import annotations

from typing import Annotated

import typer
from tabulate import tabulate

from lla.arguments import number_of_draws, whole_number
from lla.cli.command import Given, Outcome, measuring, result_files
from lla.files import atomic_write
from lla.layers.flatness import Method
from lla.layers.flatness import flatness as flatness_of_layers
from lla.layers.layerwise import layerwise as layerwise_curvature
from lla.report.text import csv_table

Layers = Annotated[
    list[str] | None,
    typer.Option(help="Layer to measure; repeatable (default: all linear and convolution layers)."),
]


@measuring()
def flatness(
    given: Given,
    layers: Layers = None,
    method: Annotated[
        Method,
        typer.Option(help="How to compute; closed and jacobian are exact, hutchinson samples."),
    ] = "auto",
    normalize_inputs: Annotated[
        bool, typer.Option(help="Divide the inputs of layers by their standard deviation.")
    ] = False,
    rtol: Annotated[
        float, typer.Option(help="Relative standard error to reach where sampled.")
    ] = 0.02,
    max_matvecs: Annotated[
        int, typer.Option(help="Hessian products at most for a sampled number.")
    ] = 1000,
) -> Outcome:
    """Compute the trace and relative flatness of each layer, exactly where possible."""
    inputs = given.load()
    result = flatness_of_layers(
        inputs.model, inputs.batches, layers or None, method=method, mode=given.mode,
        normalize_inputs=normalize_inputs, rtol=rtol, max_matvecs=max_matvecs, seed=given.seed,
        precision=given.precision, progress=given.progress,
    )  # fmt: skip
    rows = [
        (layer.name, str(layer.trace), str(layer.kappa), str(layer.kappa_diag), layer.method)
        for layer in result
    ]
    headers = ("layer", "trace", "kappa", "diagonal part", "method")
    text = tabulate(rows, headers=headers, disable_numparse=True) + (
        f"\n\nloss {result.loss:.4g}; {result.examples} examples, {result.dtype}"
        f"{', inputs normalized' if normalize_inputs else ''}"
    )
    for why in dict.fromkeys(layer.why for layer in result):
        names = [layer.name for layer in result if layer.why == why]
        text += f"\n{len(names)} by {result[names[0]].method}: {why}"
    numbers = {
        "layers": {
            layer.name: {
                "trace": layer.trace, "kappa": layer.kappa, "kappa_diag": layer.kappa_diag,
                "method": layer.method,
            }
            for layer in result
        },
        "loss": result.loss,
        "examples": result.examples,
    }  # fmt: skip
    table = csv_table(result.to_frame().reset_index())
    files = {
        **result_files(given, "flatness", result),
        "flatness.csv": lambda path: atomic_write(path, table),
    }
    return Outcome(inputs, text, numbers, files)


@measuring()
def layerwise(
    given: Given,
    k: Annotated[
        int, typer.Option(help="Eigenvectors of each layer; at most as many as it has outputs.")
    ] = 10,
    layers: Layers = None,
    centre: Annotated[
        bool, typer.Option(help="Subtract the mean from the inputs of layers.")
    ] = False,
    probes: Annotated[
        int, typer.Option(help="Random vectors for the distance from the Kronecker approximation.")
    ] = 32,
) -> Outcome:
    """Compute each layer's top Hessian eigenvectors, and compare with a Kronecker product."""
    whole_number("k", k, 1)
    number_of_draws("probes", probes, 2)
    inputs = given.load()
    result = layerwise_curvature(
        inputs.model, inputs.batches, k, layers or None, mode=given.mode, centre=centre,
        probes=probes, seed=given.seed, precision=given.precision, progress=given.progress,
    )  # fmt: skip
    rows = [
        (layer.name, f"{layer.eigenvalues[0]:.4g}", f"{layer.rank_one.mean():.2f}",
         f"{layer.mean_cosine.mean():.2f}", f"{layer.kronecker_overlap[-1]:.2f}",
         f"{layer.baseline[-1]:.2g}", str(layer.frobenius_error), layer.outliers)
        for layer in result
    ]  # fmt: skip
    headers = (
        "layer", "eigenvalue", "first singular", "cos E[x]", "Kronecker overlap", "random",
        "distance", "outliers",
    )  # fmt: skip
    text = tabulate(rows, headers=headers, disable_numparse=True) + (
        f"\n\nloss {result.loss:.4g}; {result.examples} examples, {result.dtype}; {k} eigenvectors "
        f"a layer of the {result.matrix}"
    )
    for why in dict.fromkeys(layer.why for layer in result if layer.why):
        names = [layer.name for layer in result if layer.why == why]
        text += f"\n{', '.join(names)}: {why}"
    frame = result.to_frame()
    numbers = {
        "layers": {str(name): dict(row) for name, row in frame.iterrows()},
        "loss": result.loss,
        "examples": result.examples,
        "k": k,
    }
    table = csv_table(frame.reset_index())
    files = {
        **result_files(given, "layerwise", result),
        "layerwise.csv": lambda path: atomic_write(path, table),
    }
    return Outcome(inputs, text, numbers, files)
