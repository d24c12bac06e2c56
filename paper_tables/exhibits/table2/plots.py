"""Hessian spectra that can be zoomed: of one network and data set at all its stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lla import Spectrum
from lla.report.plots import spectra
from paper_tables.engine import store
from paper_tables.engine.cells import settings_key
from paper_tables.engine.exhibit import Plot, Records
from paper_tables.engine.records import FIDELITIES, Record
from paper_tables.exhibits.table2.figures import ALL_STAGES
from paper_tables.paper.names import display


def plots(records: Records, folder: Path) -> list[Plot]:
    """One picture a network and data set.

    Args:
        records: all published records.
        folder: what their artifacts are named relative to.

    Raises:
        ChecksumError: an artifact is not the one that its record names.
    """
    return [_plot(group, folder) for group in _series(records)]


def _series(records: Records) -> list[list[Record]]:
    """The spectra of each network and data set, at the settings with most of them."""
    groups: dict[tuple[str, str], dict[tuple[object, ...], dict[str, Record]]] = {}
    for record in records:
        usual = not record.legacy and record.config.get("init", "torch") == "torch"
        if usual and _is_spectrum(record) and _stage(record) in ALL_STAGES:
            data = record.data.name if record.data else ""
            group = groups.setdefault((record.row, data), {})
            group.setdefault(settings_key(record), {}).setdefault(_stage(record), record)

    def quality(stages: dict[str, Record]) -> tuple[int, ...]:
        found = list(stages.values())
        rank = max(FIDELITIES.index(r.fidelity or FIDELITIES[-1]) for r in found)
        return (len(found), -rank, found[0].m or 0, found[0].batch_size or 0)

    chosen = [max(group.values(), key=quality) for group in groups.values()]
    return [[stages[name] for name in ALL_STAGES if name in stages] for stages in chosen]


def _is_spectrum(record: Record) -> bool:
    name = record.artifact.name if record.artifact else ""
    return name.startswith("spectra/") and name.endswith(".npz")


def _stage(record: Record) -> str:
    """The stage and mode; a column of Table 4 names the pictures instead."""
    if record.column in ALL_STAGES:
        return record.column
    return f"{record.config.get('state')}/{record.config.get('mode')}"


def _plot(group: Sequence[Record], folder: Path) -> Plot:
    curves = [(_title(r), Spectrum.load(store.artifact(r, folder))) for r in group]
    first = group[0]
    data = display(first.data.name) if first.data else "no data"
    name = f"{display(first.row)} on {data}"
    caption = (
        f"{name}: {first.batches} x {first.batch_size} images, {first.probes} probes, m = "
        f"{first.m}. Ticks at the bottom: nodes of the quadrature; each has its weight."
    )
    return Plot("spectra", spectra(curves, name, caption))


def _title(record: Record) -> str:
    name = f"{ALL_STAGES[_stage(record)]}, {record.config.get('mode', 'eval')} mode"
    if record.config.get("epoch") is not None:
        name += f", epoch {record.config['epoch']}"
    return f"{name} [{record.fidelity}]"
