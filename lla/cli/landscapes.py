"""Commands on the loss around weights: plane, interpolate, path."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Annotated, Literal

import typer

import lla
from lla import landscape, models
from lla.cli.command import Given, Outcome, measuring, picture, refuse_earlier, result_files
from lla.errors import InputError
from lla.landscape.axes import chosen_normalization
from lla.landscape.directions import Distribution
from lla.landscape.plane import Plane
from lla.plotting import check_cap

_PLANE_PICTURES = ("contour.png", "surface.png", "line.png", "accuracy.png")


@measuring(defaults={"out": Path("plane")}, earlier=[])
def plane(
    given: Given,
    axes: Annotated[
        Literal["random", "hessian"], typer.Option(help="Axes of the plane.")
    ] = "random",
    distribution: Annotated[
        Distribution | None, typer.Option(help="Distribution of random axes (default: normal).")
    ] = None,
    normalization: Annotated[
        str, typer.Option(help="Scale of axes: auto, output, filter, layer, model, weight or none.")
    ] = "auto",
    steps: Annotated[int, typer.Option(help="Steps along an axis, an even number.")] = 40,
    distance: Annotated[float, typer.Option(help="Length of an axis.")] = 1.0,
    accuracy: Annotated[bool, typer.Option(help="Also compute the accuracy.")] = False,
    recalibrate: Annotated[
        bool, typer.Option(help="Estimate BatchNorm's statistics anew at each point.")
    ] = False,
    freeze: Annotated[
        list[str] | None,
        typer.Option(help="Parameters that stay fixed: glob or re:...; repeatable."),
    ] = None,
    cap: Annotated[float | None, typer.Option(help="Highest loss in the pictures.")] = None,
) -> Outcome:
    """Evaluate and draw the loss around a network's weights; an interrupted run continues."""
    check_cap(cap)
    landscape.grid(steps, distance)
    if distribution is not None and axes != "random":
        raise InputError(f"--distribution is that of random axes, not of {axes} ones: leave it out")
    scaling = None if normalization == "none" else normalization
    chosen_normalization(landscape.RandomAxes(), scaling)  # type: ignore[arg-type]
    assert given.out is not None
    unfinished = given.out / "unfinished.npz"
    # pictures beside an unfinished plane are of the same plane
    refuse_earlier(given.out, "plane.npz", *(() if unfinished.exists() else _PLANE_PICTURES))
    inputs = given.load()
    given.out.mkdir(parents=True, exist_ok=True)
    result = lla.loss_plane(
        given.problem(inputs),
        landscape.RandomAxes(distribution or "normal") if axes == "random" else axes,
        normalization=scaling,  # type: ignore[arg-type]
        steps=steps,
        distance=distance,
        scalars={"accuracy": landscape.accuracy} if accuracy else None,
        recalibrate=recalibrate,
        freeze=freeze or None,
        seed=given.seed,
        checkpoint=unfinished,
        progress=given.progress,
    )

    def finish(path: Path) -> None:
        result.save(path)  # last: a folder with this file is complete
        unfinished.unlink()

    files = {
        f"{kind}.png": picture(given, result.plot, kind, cap=cap)
        for kind in ("contour", "surface", "line")
    }
    if accuracy:
        files["accuracy.png"] = picture(given, result.plot, scalar="accuracy")
    files["plane.npz"] = finish
    return Outcome(inputs, _said(result), _numbers(result), files)


def _said(found: Plane) -> str:
    """What a plane shows, in words."""
    explosion = found.explosion()
    lowest = ", ".join(f"{value:g}" for value in found.minimum)
    broken = f", {explosion.nonfinite} points not finite" if explosion.nonfinite else ""
    return (
        f"{found.axes} axes, normalization {found.normalization}\n"
        f"loss {found.center:.4g} at the weights; largest {explosion.ratio:.4g} times max(loss, "
        f"ln C){broken}: {explosion.verdict}; lowest at ({lowest})"
    )


def _numbers(found: Plane) -> dict[str, object]:
    explosion = found.explosion()
    return {
        "loss": found.center, "ratio": explosion.ratio, "verdict": explosion.verdict,
        "nonfinite": explosion.nonfinite, "lowest_at": list(found.minimum), "axes": found.axes,
        "normalization": found.normalization,
    }  # fmt: skip


@measuring()
def interpolate(
    given: Given,
    to: Annotated[str, typer.Option(help="Checkpoint at the other end, at coefficient 1.")],
    steps: Annotated[
        int, typer.Option(min=4, help="Steps from -1/2 to 3/2, a multiple of 4.")
    ] = 40,
    accuracy: Annotated[bool, typer.Option(help="Also compute the accuracy.")] = False,
    recalibrate: Annotated[
        bool, typer.Option(help="Estimate BatchNorm's statistics anew at each point.")
    ] = False,
) -> Outcome:
    """Evaluate and draw the loss on the line through a network's weights and others."""
    if steps % 4:
        raise InputError(f"steps is {steps}: give a multiple of 4, so that both ends are points")
    inputs = given.load()
    other = copy.deepcopy(inputs.model)
    sha256 = models.load_weights(other, to)
    result = landscape.interpolate(
        given.problem(inputs),
        other,
        steps=steps // 2,
        beyond=0.5,
        scalars={"accuracy": landscape.accuracy} if accuracy else None,
        recalibrate=recalibrate,
        progress=given.progress,
    )
    text = f"to weights {to} (sha256 {sha256[:8]}), at 1\n{_said(result)}"
    numbers = {**_numbers(result), "coefficients": result.a, "losses": result.loss}
    files = result_files(given, "interpolate", result)
    if accuracy:
        numbers["accuracies"] = result.scalar("accuracy")
        files["accuracy.png"] = picture(given, result.plot, "line", scalar="accuracy")
    return Outcome(inputs, text, numbers, files)


@measuring(without=["weights"])
def path(
    given: Given,
    checkpoint: Annotated[
        list[str], typer.Option(help="Checkpoint; give three or more, in the order of training.")
    ],
    points: Annotated[int, typer.Option(min=2, help="Points along an axis of the plane.")] = 21,
) -> Outcome:
    """Draw the path of training on its two principal axes, with the loss on their plane."""
    if len(checkpoint) < 3:
        raise InputError(f"there are {len(checkpoint)} checkpoints: a path takes three or more")
    inputs = given.load()
    problem, thetas = given.problem(inputs), []
    for file in checkpoint:  # the last ones stay in the network, which is the plane's centre
        models.load_weights(inputs.model, file)
        thetas.append(problem.theta())
    found = landscape.pca_path(thetas)
    along = tuple(values.tolist() for values in found.grid(points))
    around = lla.loss_plane(
        problem, found.directions, coordinates=along,
        normalization=None, progress=given.progress,
    )  # fmt: skip
    shares = found.explained
    text = (
        f"{len(checkpoint)} checkpoints; the axes hold {shares[0]:.1%} and {shares[1]:.1%} of the "
        f"variance\n{_said(around)}"
    )
    numbers = {
        "checkpoints": checkpoint, "explained": shares, "coordinates": found.coordinates,
        **_numbers(around),
    }  # fmt: skip
    files = {
        "path.npz": found.save,
        "path.plane.npz": around.save,
        "path.png": picture(given, found.plot, around),
    }
    return Outcome(inputs, text, numbers, files)
