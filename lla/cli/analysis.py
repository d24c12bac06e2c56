"""The command that writes a page about a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lla.analysis import analyze as analysis_of
from lla.analysis.page import write_page
from lla.analysis.result import Analysis
from lla.cli.command import Given, Outcome, measuring
from lla.cli.own_functions import is_function


@measuring(batches=4, batch_size=64)
def analyze(
    given: Given,
    probes: Annotated[
        int | None,
        typer.Option(min=1, help="Random vectors for each batch (default: 1, or 2 for one batch)."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Lanczos steps (m).")] = 25,
    points: Annotated[
        int, typer.Option(min=3, help="Points of the plane along each axis, an odd number.")
    ] = 11,
) -> Outcome:
    """Measure a network from all sides and say what the numbers mean; --out writes a page."""
    inputs = given.load()
    found = analysis_of(
        inputs.model, inputs.batches, mode=given.mode, probes=probes, steps=steps, points=points,
        seed=given.seed, precision=given.precision, progress=given.progress,
    )  # fmt: skip

    def page(path: Path) -> None:
        write_page(found, path, given.network, drawn=not is_function(given.data))

    return Outcome(inputs, repr(found), _numbers(found),
                   {"analyze.html": page, "analyze.npz": found.save})  # fmt: skip


def _numbers(found: Analysis) -> dict[str, object]:
    """What programs want: numbers and findings."""
    one = found.criteria
    return {
        "re": one.re, "kh1": one.kh1, "kh05": one.kh05, "kind": one.kind.name,
        "negative_share": one.kind.negative_share, "near_zero": one.kind.near_zero,
        "loss": one.loss, "trace": found.blocks.total,
        "largest": found.extremes.values.max(), "smallest": found.extremes.values.min(),
        "gradient": found.gradient,
        "explosion": found.plane.explosion().verdict,
        "findings": [
            {"topic": each.topic, "weight": each.weight, "text": each.text}
            for each in found.findings
        ],
    }  # fmt: skip
