"""Figures from records and the spectra that they name, nothing else."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

import lla
from paper_tables.engine import store
from paper_tables.engine.cells import settings_key
from paper_tables.engine.exhibit import Drawing, Records
from paper_tables.engine.records import FIDELITIES, Record
from paper_tables.paper.names import display

# Columns of one network's life, in order, and what the panels are called.
STAGES = {
    "random/eval": "at initialisation",
    "during/eval": "during training",
    "pretrained/eval": "after training",
}
# Train mode is drawn as well where it is another function (Figure 8).
TRAIN_STAGES = {
    "random/train": "at initialisation",
    "pretrained/train": "after training",
}
ALL_STAGES = STAGES | TRAIN_STAGES


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
        for (row, data), chosen in _series(records).items()
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
        _spectrum(record, results).plot(ax=ax)
        stage = ALL_STAGES[record.column]
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


def _series(records: Records) -> dict[tuple[str, str], list[Record]]:
    """Network and data -> one record a stage, of the settings with the most stages."""
    groups: dict[tuple[str, str], dict[tuple[object, ...], dict[str, Record]]] = {}
    for record in records:
        plain = record.config.get("init") == "torch" and not record.legacy
        if record.data is None or record.column not in ALL_STAGES or not _is_spectrum(record):
            continue
        if plain:
            group = groups.setdefault((record.row, record.data.name), {})
            group.setdefault(settings_key(record), {}).setdefault(record.column, record)

    def quality(stages: dict[str, Record]) -> tuple[int, ...]:
        found = list(stages.values())
        rank = min(FIDELITIES.index(r.fidelity or FIDELITIES[-1]) for r in found)
        return (len(found), -rank, found[0].m or 0, found[0].batch_size or 0)

    chosen = {}
    for key, group in groups.items():
        best = max(group.values(), key=quality)
        chosen[key] = [best[column] for column in ALL_STAGES if column in best]
    return chosen


def _is_spectrum(record: Record) -> bool:
    """Whether the record names a spectrum; that of the loss names its pictures."""
    return record.artifact is not None and record.artifact.name.endswith(".npz")


def _spectrum(record: Record, results: Path) -> lla.Spectrum:
    return lla.Spectrum.load(store.artifact(record, results))
