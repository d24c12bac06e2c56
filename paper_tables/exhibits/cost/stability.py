"""How much spectra differ from probe to probe (section 3.4): eigenvalues, weights, criteria.

The spectra are those of Table 2; published ones are taken if they have the same settings. A
spread is a standard deviation over the probes of one batch, relative to their mean; its error bar
is over batches. For K_H05 there are also the numbers that the paper states: how it scatters from
probe to probe and from batch to batch, and how far single runs and single batches lie apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from lla import Spectrum
from lla.estimate import Estimate
from lla.hessian.accuracy import Scatter, probe_and_batch_ranges
from lla.hessian.ratios import spectrum_criteria
from paper_tables.engine import store
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.records import Record, Source
from paper_tables.inputs import image_sets, lenet
from paper_tables.measure import lenet_criteria

SPREADS = ("spread_eigenvalues", "spread_weights", "spread_re", "spread_kh1", "spread_kh05")
SCATTER = ("kh05", "kh05_probes", "kh05_batches", "kh05_range_probes", "kh05_range_batches")
OUTERMOST = 5  # largest Ritz values; they have converged and have the same rank in every run


def cells(settings: Settings) -> list[Cell]:
    """One cell: trained LeNet."""
    config = lenet_criteria.config_of(settings, "trained") | {"outermost": OUTERMOST}
    del config["readings"]  # spreads are of the product reading only
    reason = "the spread over probes needs two of them" if config["probes"] < 2 else None
    return [
        Cell(
            table="stability",
            row="lenet",
            column="pretrained/eval",
            name="lenet-pretrained-eval-spread",
            metrics=(*SPREADS, *SCATTER),
            config=config,
            fidelity=None if reason else lenet_criteria.fidelity_of(settings, "trained"),
            inputs=lenet_criteria.inputs_of(settings, config),
            compute=None if reason else _compute,
            reason=reason,
            stage=1,
            seconds=10,
            shared=lenet.training_step(settings),
        )
    ]


def _compute(cell: Cell, settings: Settings) -> list[Record]:
    spectra, weights, note = _published(cell, settings) or _computed(settings)
    matvecs = sum(spectrum.matvecs for spectrum in spectra)
    found = [spreads(spectrum) for spectrum in spectra]
    estimates = {
        name: Estimate.of([spread[name] for spread in found], matvecs) for name in SPREADS
    } | scatter(np.stack([spectrum_criteria(spectrum).kh05 for spectrum in spectra]))
    facts = {"data": image_sets.source_of(lenet.images(settings)), "weights": weights, "note": note}
    return [
        cell.estimated(
            metric, estimate, stderr_kind=None if estimate.stderr is None else "batches", **facts
        )
        for metric, estimate in estimates.items()
    ]


# the spectrum of each batch, the weights, their note
_Spectra = tuple[Sequence[Spectrum], Source, str | None]


def _computed(settings: Settings) -> _Spectra:
    criteria = lenet_criteria.criteria(settings, "trained", "torch", False)
    _, weights, note = lenet.network(settings, "trained")
    return criteria.spectra, weights, note


def _published(cell: Cell, settings: Settings) -> _Spectra | None:
    """The spectra that Table 2 has published for the same settings."""
    wanted = {name: value for name, value in cell.config.items() if name != "outermost"}
    for record in store.published(settings.results):
        if (record.table, record.row, record.column) != ("table2", cell.row, cell.column):
            continue
        same = all(record.config.get(name) == value for name, value in wanted.items())
        if same and record.artifact and record.weights:
            pooled = Spectrum.load(store.artifact(record, settings.results))
            return _parts(pooled, cell.config["batches"]), record.weights, record.note
    return None


def _parts(pooled: Spectrum, count: int) -> list[Spectrum]:
    """The spectra of the single batches, whose probes follow one another in the pooled one."""
    names = ("eigenvalues", "weights", "counts")
    rows = zip(*(np.split(getattr(pooled, name), count) for name in names), strict=True)
    changes = [dict(zip(names, row, strict=True)) for row in rows]
    each = pooled.matvecs // count
    return [dataclasses.replace(pooled, matvecs=each, **change) for change in changes]


def scatter(values: np.ndarray) -> dict[str, Estimate]:
    """How a criterion scatters, from its values [batches, probes] with probes nested in batches.

    The standard deviation over batches is that of exact values, without the noise of the probes;
    it is zero if that noise alone explains the scatter.

    >>> found = scatter(np.array([[1.0, 3.0], [5.0, 7.0]]))
    >>> found["kh05_probes"].value, found["kh05_range_batches"].value
    (1.4142135623730951, 4.0)
    """
    batches, probes = values.shape
    known, (ranges, of_batches) = Scatter.of(values), probe_and_batch_ranges(values)
    return {
        "kh05": Estimate.of(values.mean(axis=1), 0),
        "kh05_probes": Estimate(known.probes, None, batches * (probes - 1), 0),
        # one batch says nothing about this; claims need more batches
        "kh05_batches": Estimate(known.batches if batches > 1 else 0.0, None, batches - 1, 0),
        "kh05_range_probes": ranges,
        "kh05_range_batches": Estimate(of_batches, None, batches, 0),
    }


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
    samples = (values, weights, ratios.re, ratios.kh1, ratios.kh05)
    return dict(zip(SPREADS, map(_relative, samples), strict=True))


def _relative(samples: np.ndarray) -> float:
    """The standard deviation along the first axis over the mean; the mean of several columns."""
    scatter, mean = samples.std(axis=0, ddof=1), np.abs(samples.mean(axis=0))
    return float(np.mean(np.where(scatter == 0, 0.0, scatter / np.where(mean == 0, 1.0, mean))))
