"""The command on good and bad minima: minima."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from tabulate import tabulate

from lla.arguments import number_of_draws
from lla.cli.command import Given, Outcome, measuring, picture
from lla.minima.radial import Scan, radial_index


@measuring(earlier=["radii.*"])
def minima(
    given: Given,
    cutoff: Annotated[float, typer.Option(help="Training loss at which a radius ends.")] = 0.1,
    directions: Annotated[int, typer.Option(help="Random directions.")] = 250,
    reach: Annotated[
        float, typer.Option(help="Largest distance, in units of the weights of each filter.")
    ] = 100.0,
    scan: Annotated[
        Scan,
        typer.Option(help="Where scans start: informed, by the first directions; full, near 0."),
    ] = "informed",
) -> Outcome:
    """Compute how far random directions stay in a minimum; a killed run with --out continues."""
    number_of_draws("directions", directions)
    inputs = given.load()
    unfinished = None if given.out is None else given.out / "unfinished.npz"
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
    result = radial_index(
        given.problem(inputs), cutoff, directions, reach=reach, scan=scan, seed=given.seed,
        checkpoint=unfinished, progress=given.progress,
    )  # fmt: skip
    low, high = result.interval
    bound = "at least " if result.censored else ""
    rows = [
        ("mean radius", f"{bound}{result.mean}"),
        ("standard deviation", f"{result.sd:.4g}"),
        ("largest radius", f"{bound}{result.maximum:.4g}"),
        ("log10 radial index", f"{bound}{result.log10_index:.6g} [{low:.6g}, {high:.6g}]"),
        ("of both halves", "{:.6g}, {:.6g}".format(*result.halves)),
        ("Jensen's lower bound", f"{result.log10_jensen:.6g}"),
        ("censored", f"{result.censored} of {directions}"),
    ]
    text = tabulate(rows, headers=("radial index", ""), disable_numparse=True) + (
        f"\n\nloss {result.loss:.4g}, cutoff {cutoff:g}; {result.examples} examples, {result.n} "
        f"weights move, {result.evaluations} evaluations of the loss by the {result.route} route\n"
        f"{result.warning}"
    )
    numbers = {
        "mean": result.mean, "sd": result.sd, "maximum": result.maximum,
        "log10_index": result.log10_index, "interval": [low, high], "halves": result.halves,
        "log10_jensen": result.log10_jensen, "censored": result.censored, "cutoff": cutoff,
        "directions": directions, "weights_moved": result.n, "loss": result.loss,
        "evaluations": result.evaluations, "warning": result.warning,
    }  # fmt: skip

    def finish(path: Path) -> None:
        result.save(path)  # last: a folder with this file is complete
        if unfinished is not None:
            unfinished.unlink()

    files = {"radii.png": picture(given, result.plot), "radii.npz": finish}
    return Outcome(inputs, text, numbers, files)
