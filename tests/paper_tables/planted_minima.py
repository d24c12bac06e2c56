"""Planted records of good and bad minima."""

import dataclasses

import numpy as np

from paper_tables.engine.records import Record, Source
from paper_tables.exhibits.minima import cells, ellipsoids, scans
from paper_tables.exhibits.minima.measured import CHEAP, INDEX
from paper_tables.exhibits.minima.tasks import GOOD

SHA = "ab" * 32
TRAINING = {"loss_bound": 0.01}


def record(table, row, column, metric, value, fidelity="reduced", stderr=None, n=None, **config):
    """One record."""
    return Record(
        table=table, row=row, column=column, metric=metric,
        value=None if value is None else float(value), stderr=stderr, n=n, fidelity=fidelity,
        verdict="not_run" if value is None else None, reason=None if value is not None else "far",
        data=Source("data", SHA), config=config, note="100 steps, 0 wrong",
    )  # fmt: skip


def minimum(row, variant, share, seed, *, fidelity="reduced", reached=True, **values):
    """The records of one network; a flat good one by default."""
    mine = dict.fromkeys(cells.METRICS, 1.0) | {
        "training_accuracy": 100.0, "training_loss": 0.01, "test_accuracy": 95.0 + 0.1 * seed,
        "mean_radius": 0.4 + 0.01 * seed, INDEX: -8000.0 + seed, "log10_low": -8010.0,
        "log10_high": -7990.0, "log10_first": -8001.0, "log10_second": -8003.0, "censored": 0.0,
        cells.CHANGE: 1e-12, **values,
    }  # fmt: skip
    if not reached:
        mine |= dict.fromkeys(cells.OF_MINIMUM)
    config = {"training": TRAINING, "variant": variant, "share": share, "seed": seed, "images": 9,
              "directions": 5, "cutoff": 0.1}  # fmt: skip
    return [
        record(cells.TABLE, row, f"{variant}, seed {seed}", metric, value, fidelity, **config)
        for metric, value in mine.items()
    ]


BAD = {"test_accuracy": 50.0, "mean_radius": 0.05, INDEX: -10000.0}


def minima(row="mnist", shares=(0.1, 0.3), seeds=3, fidelity="reduced", **bad):
    """A natural group and poisoned ones; bad ones are worse by chance within 1 % besides."""
    rng = np.random.default_rng(0)
    found = [r for s in range(seeds) for r in minimum(row, GOOD, 0.0, s, fidelity=fidelity)]
    for share in shares:
        for seed in range(seeds):
            values = {k: v * rng.uniform(0.99, 1.01) for k, v in (BAD | bad).items()}
            values |= {k: 5.0 + rng.uniform() for k in CHEAP if k not in bad}
            name = f"b = {share:g}"
            found += minimum(row, name, share, seed, fidelity=fidelity, **values)
    return found


def balls(shortfall=5500.0, off=1e-9):
    """Ellipsoids of all sizes."""
    found = []
    for n in ellipsoids.SIZES:
        for metric in ellipsoids.METRICS:
            value = off if metric.startswith("spread 0,") else shortfall
            row = ellipsoids.row(n)
            found.append(
                record(ellipsoids.TABLE, row, ellipsoids.COLUMN, metric, value, stderr=1.0, n=20)
            )
    return [dataclasses.replace(r, config={"n": int(r.row[4:])}, config_hash="") for r in found]


def scanned(seconds=5.0, informed=7000.0, difference=0.0):
    """What both scans cost."""
    values = {
        "seconds_informed": seconds, "seconds_full": 12.0, "seconds_loop": 15.0,
        "evaluations_informed": informed, "evaluations_full": 15000.0, "difference": difference,
    }  # fmt: skip
    return [
        record(scans.TABLE, "digits", column, metric, value)
        for column in (GOOD, "b = 0.5")
        for metric, value in values.items()
    ]
