"""Figures from records and the spectra that they name, nothing else."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

import lla
from paper_tables.engine import store
from paper_tables.engine.exhibit import Drawing, Records
from paper_tables.engine.fidelity import least_faithful, rank
from paper_tables.engine.records import Record
from paper_tables.evidence.selection import at_equal_settings, grouped
from paper_tables.paper.names import display

# Columns of one network's life, in order, and what the panels are called. Train mode is drawn as
# well where it is another function (Figure 8).
STAGES = {
    "random/eval": "at initialisation",
    "during/eval": "during training",
    "pretrained/eval": "after training",
    "random/train": "at initialisation",
    "pretrained/train": "after training",
}


def figures(records: Records) -> list[Drawing]:
    """The Hessian spectra of every network and data set that has some (Figures 5 to 9).

    Of several settings the most faithful is drawn.
    """
    return [
        Drawing(
            name=f"hesd_{row}_{data}",
            kind="spectra",
            alt=f"Hessian spectral density of {display(row)} on {display(data)}, one panel a stage",
            records=tuple(chosen),
            draw=functools.partial(hesd, chosen),
        )
        for (row, data), chosen in series(records, lambda record: record.column).items()
    ]


def hesd(records: Sequence[Record], results: Path) -> Figure:
    """Draw one network's Hessian spectrum at its stages and modes, on a logarithmic axis.

    Args:
        records: one a stage, with the spectrum as artifact, in order.
        results: the folder that the artifacts are named relative to.

    Raises:
        ChecksumError: a spectrum is not the one that its record names.
    """
    figure = Figure(figsize=(3.4 * len(records), 3.4), dpi=100, layout="constrained")
    panels = figure.subplots(1, len(records), squeeze=False)[0]
    for ax, record in zip(panels, records, strict=True):
        lla.Spectrum.load(store.artifact(record, results)).plot(ax=ax)
        stage = STAGES[record.column]
        epoch = record.config.get("epoch")
        if epoch is not None:
            stage += f" (epoch {epoch})"
        mode = record.config.get("mode", "eval")
        ax.set_title(f"{stage}, {mode} mode\n[fidelity: {record.fidelity}]", fontsize=11)
        ax.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))
    for ax in panels[1:]:
        ax.set_ylabel("")
    first = records[0]
    data = display(first.data.name) if first.data else ""
    break_ = "\n" if len(records) == 1 else " "  # one picture is narrower than the line
    figure.suptitle(
        f"{display(first.row)} on {data}:{break_}{first.batches} x {first.batch_size} images, "
        f"{first.probes} {'probes' if first.probes != 1 else 'probe'}, m = {first.m}",
        fontsize=11,
    )
    return figure


def series(records: Records, stage: Callable[[Record], str]) -> dict[tuple[str, str], list[Record]]:
    """Network and data -> the spectra at its stages, of the settings with the most stages.

    Args:
        records: all published records.
        stage: of a record; one that is none of `STAGES` is left out.
    """
    usual = [
        record
        for record in records
        if record.data
        and _is_spectrum(record)
        and stage(record) in STAGES
        and record.config.get("init") == "torch"
        and not record.legacy
    ]
    chosen = {}
    for place, mine in grouped(usual, lambda r: (r.row, r.data.name if r.data else "")).items():
        groups = [{stage(r): r for r in reversed(same)} for same in at_equal_settings(mine)]
        best = max(groups, key=_quality)
        chosen[place] = [best[name] for name in STAGES if name in best]
    return chosen


def _quality(stages: dict[str, Record]) -> tuple[int, ...]:
    found = list(stages.values())
    least = rank(least_faithful(record.fidelity for record in found))
    return (len(found), -least, found[0].m or 0, found[0].batch_size or 0)


def _is_spectrum(record: Record) -> bool:
    """Whether the record names a spectrum; that of the loss names its pictures."""
    name = record.artifact.name if record.artifact else ""
    return name.startswith("spectra/") and name.endswith(".npz")
