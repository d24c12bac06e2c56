"""The command on level sets of the training loss: level-set."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from tabulate import tabulate

from lla import level_sets
from lla.arguments import positive_number
from lla.cli.command import Given, Outcome, measuring, picture
from lla.cli.own_functions import is_function
from lla.errors import InputError, unknown_name
from lla.files import atomic_write
from lla.level_sets.regularizers import NAMES as REGULARIZERS
from lla.report.text import csv_table

# columns of a walk that are not shown
LEFT_OUT = ("step", "corrections", "rejected", "gradients", "regularizer_gradients", "multiplier")


@measuring(defaults={"out": Path("walk"), "precision": "float64"}, earlier=["walk.*"])
def level_set(
    given: Given,
    level: Annotated[
        str, typer.Option(help="Training loss of all points: a number, or `present`.")
    ] = "present",
    regularizer: Annotated[
        str, typer.Option(help=f"What falls: {', '.join(REGULARIZERS)}; or free, a random walk.")
    ] = "l2",
    steps: Annotated[int, typer.Option(help="Steps at most.")] = 100,
    tol: Annotated[float, typer.Option(help="Largest |loss / level - 1| of a point.")] = 0.02,
    measured: Annotated[
        list[str] | None,
        typer.Option(help="Regularizer to record; repeatable (default: l2, smooth_l1)."),
    ] = None,
    test_images: Annotated[
        int, typer.Option(min=0, help="Images of the test split to measure at each point.")
    ] = 0,
) -> Outcome:
    """Walk at constant training loss while a regularizer falls; an interrupted run continues."""
    wanted = _level(level)
    for name in (*(() if regularizer == "free" else (regularizer,)), *(measured or ())):
        if name not in REGULARIZERS:
            raise unknown_name("regularizer", name, (*REGULARIZERS, "free"))
    assert given.out is not None
    unfinished = given.out / "unfinished.npz"
    if test_images and is_function(given.data):
        raise InputError(
            f"--test-images takes the test split of a data set, and {given.data} has none: leave "
            "it out"
        )
    inputs = given.load()
    test = None
    if test_images:
        unseen = dataclasses.replace(given, split="test", batches=1, batch_size=test_images)
        test = unseen.load().batches
    given.out.mkdir(parents=True, exist_ok=True)
    path = level_sets.walk(
        given.problem(inputs), wanted, None if regularizer == "free" else regularizer,
        steps=steps, tol=tol, measured=measured or ("l2", "smooth_l1"), test=test,
        seed=given.seed, checkpoint=unfinished, progress=given.progress,
    )  # fmt: skip
    frame = path.to_frame()
    shown = [name for name in frame if name not in LEFT_OUT and frame[name].notna().any()]
    rows = [(name, frame[name].iloc[0], frame[name].iloc[-1]) for name in shown]
    text = tabulate(rows, headers=("", "start", "end"), floatfmt=".4g") + (
        f"\n\n{len(path)} points at the loss {path.level:.4g} within {path.deviation:.1g}, "
        f"{path.walked}: {path.stopped}\n{frame['gradients'].iloc[-1]} gradients of the loss, "
        f"{path.rejection_rate:.0%} of the steps rejected"
    )
    numbers: dict[str, Any] = {
        "level": path.level, "deviation": path.deviation, "stopped": path.stopped,
        "rejection_rate": path.rejection_rate,
        "points": {str(name): frame[name].tolist() for name in frame},
    }  # fmt: skip

    def finish(target: Path) -> None:
        path.save(target)  # last: a folder with this file is complete
        unfinished.unlink()

    files = {
        "walk.csv": lambda target: atomic_write(target, csv_table(frame.reset_index())),
        "walk.png": picture(given, path.plot),
        "walk.npz": finish,
    }
    return Outcome(inputs, text, numbers, files)


def _level(given: str) -> float | Literal["present"]:
    """A level of the loss from the command line."""
    if given == "present":
        return "present"
    try:
        return positive_number("level", float(given))
    except ValueError as error:
        raise InputError(f"--level is {given!r}: give a positive number, or 'present'") from error
