"""Criteria of a network: how a cell is configured, how it is measured, what its records say."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import lla
from lla.files import writing
from lla.hessian.products.routes import RouteName
from lla.tensor_hashes import tensors_sha256, weights_sha256
from paper_tables.engine import machine, store
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.records import Record, Source, config_hash

# Metric -> name of the estimate in `lla.Criteria`, and its reading.
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
    """The metrics of a cell of criteria."""
    return LEGACY if legacy else PLAIN


def criteria_config(
    mode: str, steps: int, probes: int, route: RouteName, legacy: bool = False
) -> dict[str, Any]:
    """The part of a cell's configuration that says how its criteria are measured.

    The route is part of it: routes round differently, and a cell that is computed again has to
    give the same value.
    """
    return {
        "mode": mode,
        "m": steps,
        "probes": probes,
        "legacy": legacy,
        "readings": ["product"] if legacy else ["product", "density"],
        "route": route,
    }


def measured(
    settings: Settings,
    model: nn.Module,
    pairs: list[tuple[Tensor, Tensor]],
    config: Mapping[str, Any],
    **changes: Any,
) -> lla.Criteria:
    """The criteria of a network, measured as a configuration says.

    If that is interrupted, the same code goes on with the batches that are not finished.

    Args:
        settings: of the session.
        model: the network.
        pairs: its batches.
        config: of a cell, see `criteria_config`.
        changes: options of `lla.criteria` that replace those of the configuration.
    """
    basis = config.get("basis_dtype")
    options: dict[str, Any] = {
        "mode": config["mode"],
        "probes": config["probes"],
        "steps": config["m"],
        "seed": config["seed"],
        "legacy": config["legacy"],
        "route": config["route"],
        "micro_batch": config.get("micro_batch"),
        "precision": "float64" if config["dtype"] == "float64" else None,
        "memory": lla.Memory(basis_dtype=getattr(torch, basis) if basis else None),
    }
    options |= changes
    if len(pairs) == 1:
        return lla.criteria(model, pairs, **options)
    with _unfinished(settings, model, pairs, {**config, **changes}) as folder:
        return lla.criteria(model, pairs, checkpoint=folder, **options)


@contextlib.contextmanager
def _unfinished(
    settings: Settings, model: nn.Module, pairs: list[tuple[Tensor, Tensor]], config: dict[str, Any]
) -> Iterator[Path]:
    """A folder for the spectra of single batches, which is emptied once all of them are finished.

    It stays, because another worker may be at the same spectra for another cell.
    """
    data = tensors_sha256(("", tensor) for pair in pairs for tensor in pair)
    what = [machine.code_version(), weights_sha256(model), data]
    folder = settings.work / "partial" / f"criteria-{config_hash({'what': what, 'how': config})}"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    yield folder
    for file in folder.iterdir():
        file.unlink(missing_ok=True)


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
        found.append(cell.estimated(metric, estimate, reading=reading, **facts))
    return [*found, loss]


def _save(cell: Cell, settings: Settings, criteria: lla.Criteria) -> Source:
    """Keep the spectra of all batches as one, whose density is their mean."""
    spectra = criteria.spectra
    fields: dict[str, Any] = {
        name: np.concatenate([getattr(spectrum, name) for spectrum in spectra])
        for name in ("eigenvalues", "weights", "counts")
    }
    pooled = dataclasses.replace(spectra[0], matvecs=criteria.matvecs, **fields)
    return store.save_result(pooled, f"spectra/{cell.name}-{cell.hash}.npz", settings.work)
