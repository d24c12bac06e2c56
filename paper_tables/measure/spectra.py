"""From the criteria of a network to the records of a cell, for every table of criteria."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import lla
from paper_tables.engine import store
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.records import Record, Source

__all__ = ["LEGACY", "PLAIN", "criteria_records", "metrics"]

# Metric -> the estimate of `lla.Criteria` that it is, and its reading.
ESTIMATES = {
    "kh1": ("kh1", "product"),
    "kh05": ("kh05", "product"),
    "re": ("re", "product"),
    "kh05_density": ("kh05", "density"),
    "negative_share": ("negative_share", "product"),
}
PLAIN = (*ESTIMATES, "loss")
# Not the density reading: ghosts give the legacy spectrum nodes near zero whose weights are
# rounding alone (0.35 to 1.6 for one network, by threads and route).
LEGACY = tuple(metric for metric in PLAIN if metric != "kh05_density")


def metrics(legacy: bool) -> tuple[str, ...]:
    """What a cell of criteria yields."""
    return LEGACY if legacy else PLAIN


def criteria_records(
    cell: Cell, settings: Settings, criteria: lla.Criteria, keep: bool, **facts: Any
) -> list[Record]:
    """The records of a cell whose metrics are those of `metrics`, in that order.

    Args:
        cell: the cell.
        settings: of the session.
        criteria: what was measured.
        keep: whether its spectra become a file that the records name.
        facts: further fields of every record.
    """
    facts = {
        "stderr_kind": criteria.stderr_kind,
        "route": criteria.route,
        "matvecs": criteria.matvecs,
        **facts,
    }
    if criteria.plan != f"whole batches, {criteria.route}":
        facts["note"] = "; ".join(filter(None, [facts.get("note"), f"plan: {criteria.plan}"]))
    loss = cell.record("loss", criteria.loss, **facts)
    if keep:
        facts["artifact"] = _save(cell, settings, criteria)
    readings = {"product": criteria, "density": criteria.reread("density")}
    found = []
    for metric in metrics(criteria.legacy)[:-1]:
        name, reading = ESTIMATES[metric]
        estimate = getattr(readings[reading], name)
        found.append(
            cell.record(
                metric, estimate.value, estimate.stderr, n=estimate.n, reading=reading, **facts
            )
        )
    return [*found, loss]


def _save(cell: Cell, settings: Settings, criteria: lla.Criteria) -> Source:
    """Keep the spectra of all batches as one, whose density is their mean."""
    spectra = criteria.spectra
    pooled = dataclasses.replace(
        spectra[0],
        eigenvalues=_stacked(spectra, lambda spectrum: spectrum.eigenvalues),
        weights=_stacked(spectra, lambda spectrum: spectrum.weights),
        counts=_stacked(spectra, lambda spectrum: spectrum.counts),
        matvecs=criteria.matvecs,
    )
    return store.save_result(pooled, f"spectra/{cell.name}-{cell.hash}.npz", settings.work)


def _stacked(
    spectra: Sequence[lla.Spectrum], field: Callable[[lla.Spectrum], np.ndarray]
) -> np.ndarray:
    return np.concatenate([field(spectrum) for spectrum in spectra])
