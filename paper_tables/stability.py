"""How much spectra differ from probe to probe (section 3.4): eigenvalues, weights, criteria.

The spectra are those of Table 2. A spread is a standard deviation over the probes of one batch,
relative to their mean; its error bar is over batches.
"""

from __future__ import annotations

import numpy as np

from lla import Spectrum
from lla.estimate import Estimate
from lla.hessian.criteria import spectrum_criteria
from lla.records import Record, Source
from paper_tables import lenet, table2
from paper_tables.cells import Cell, Settings

__all__ = ["METRICS", "OUTERMOST", "cells", "spreads"]

METRICS = ("spread_eigenvalues", "spread_weights", "spread_re", "spread_kh1", "spread_kh05")
OUTERMOST = 5  # of the largest Ritz values, which have converged and have the same rank everywhere


def cells(settings: Settings) -> list[Cell]:
    """One cell: trained LeNet."""
    image_set = lenet.images(settings)
    profile = lenet.fitted(settings.profile, image_set)
    config = table2.config_of(profile, image_set, "trained") | {
        "mode": "eval",
        "init": "torch",
        "m": profile.steps,
        "probes": profile.probes,
        "legacy": False,
        "route": table2.ROUTE,
        "outermost": OUTERMOST,
    }
    reason = "the spread over probes needs two of them" if profile.probes < 2 else None
    return [
        Cell(
            table="stability",
            row="lenet",
            column="pretrained/eval",
            name="lenet-pretrained-eval-spread",
            metrics=METRICS,
            config=config,
            fidelity=None if reason else lenet.fidelity(profile, image_set, "trained"),
            inputs=lenet.describe(image_set, config),
            compute=None if reason else _compute,
            reason=reason,
            stage=1,
            seconds=10,
            shared=lenet.training_step(settings, image_set),
        )
    ]


def _compute(cell: Cell, settings: Settings) -> list[Record]:
    criteria = table2.criteria_of(settings, "trained", "torch", False)
    _, weights, note = table2.network_of(settings, "trained")
    image_set = lenet.images(settings)
    found = [spreads(spectrum) for spectrum in criteria.spectra]
    records = []
    for metric in cell.metrics:
        estimate = Estimate.of([spread[metric] for spread in found], criteria.matvecs)
        records.append(
            cell.record(
                metric,
                estimate.value,
                estimate.stderr,
                n=estimate.n,
                stderr_kind="batches",
                data=Source(image_set.name, image_set.sha256),
                weights=weights,
                note=note,
            )
        )
    return records


def spreads(spectrum: Spectrum) -> dict[str, float]:
    """The relative standard deviations over the probes of one spectrum, by metric.

    Those of eigenvalues and weights are means over the outermost nodes, by rank.

    >>> import numpy as np
    >>> same = Spectrum(np.array([[-1.0, 2.0]] * 2), np.array([[0.5, 0.5], [0.5, 0.5]]),
    ...                 np.array([2, 2]), 2, 2, 0, "float64", False, 4)
    >>> spreads(same)["spread_weights"]
    0.0
    """
    count = min(OUTERMOST, int(spectrum.counts.min()))
    tops = [slice(n - count, n) for n in spectrum.counts.tolist()]
    values = np.array([row[top] for row, top in zip(spectrum.eigenvalues, tops, strict=True)])
    weights = np.array([row[top] for row, top in zip(spectrum.weights, tops, strict=True)])
    ratios = spectrum_criteria(spectrum)
    return {
        "spread_eigenvalues": _relative(values),
        "spread_weights": _relative(weights),
        "spread_re": _relative(ratios.re),
        "spread_kh1": _relative(ratios.kh1),
        "spread_kh05": _relative(ratios.kh05),
    }


def _relative(samples: np.ndarray) -> float:
    """The standard deviation along the first axis over the mean; the mean of several columns."""
    scatter, mean = samples.std(axis=0, ddof=1), np.abs(samples.mean(axis=0))
    return float(np.mean(np.where(scatter == 0, 0.0, scatter / np.where(mean == 0, 1.0, mean))))
