"""Zoomable Hessian spectra: each plot shows all stages of a network on a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lla import Spectrum
from lla.report.plots import spectra
from paper_tables.engine import store
from paper_tables.engine.exhibit import Plot, Records
from paper_tables.engine.records import Record
from paper_tables.exhibits.table2.figures import STAGES, series
from paper_tables.paper.names import display


def plots(records: Records, folder: Path) -> list[Plot]:
    """One plot for each network and data set.

    Args:
        records: all published records.
        folder: what their artifacts are named relative to.

    Raises:
        ChecksumError: an artifact is not the one that its record names.
    """
    return [_plot(group, folder) for group in series(records, _stage).values()]


def _stage(record: Record) -> str:
    """The stage and mode; a column of Table 4 names the pictures instead."""
    if record.column in STAGES:
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
    name = f"{STAGES[_stage(record)]}, {record.config.get('mode', 'eval')} mode"
    if record.config.get("epoch") is not None:
        name += f", epoch {record.config['epoch']}"
    return f"{name} [{record.fidelity}]"
