"""Planted records of exact flatness: families of networks, networks and their costs."""

import numpy as np

from paper_tables.engine.records import Record, Source
from paper_tables.exhibits.flatness import costs, family, identities, networks
from paper_tables.exhibits.flatness.comparators import MEASURES

SHA = "ab" * 32


def record(table, row, column, metric, value, stderr=None, fidelity="reduced", n=None, **config):
    """One record."""
    return Record(
        table=table, row=row, column=column, metric=metric, value=float(value), stderr=stderr, n=n,
        fidelity=fidelity, data=Source("data", SHA), config=config, note="conv3, closed form: x",
    )  # fmt: skip


def networks_of(gaps, name="mnist", fidelity="reduced", seed=0, images=1000, alike=1, **values):
    """A family: a gap for each network, and values of measures; others are noise.

    So many networks one after the other are trained in one way.
    """
    rng = np.random.default_rng(seed)
    found = []
    for i, gap in enumerate(gaps):
        mine = {metric: abs(rng.normal()) + 0.1 for metric in family.METRICS}
        mine |= {"gap_loss": gap, "gap_accuracy": 10 * gap, family.CHANGE: 1e-15}
        for key, series in values.items():
            mine[key] = mine[f"rescaled_{key}"] = series[i]
        training = {"lr": 0.1 + i // alike / 1000, "batch_size": 16, "weight_decay": 0.0,
                    "seed": i, "target": 0.05, "images": images}  # fmt: skip
        found += [
            record(
                family.TABLE, name, f"s{i}", metric, mine[metric],
                0.01 if metric.startswith("gap") else None, fidelity, training=training,
            )
            for metric in family.METRICS
        ]  # fmt: skip
    return found


def formulas(error=1e-16, ratio=2.0):
    """Identities and invariance of every architecture."""
    found = [
        record(identities.TABLE, row, "explicit Hessian", metric, error)
        for row in identities.ARCHITECTURES
        for metric in identities.EXACT
    ]
    for row in identities.FOLLOWED:
        for kind in identities.KINDS:
            found += [
                record(identities.TABLE, row, kind, metric, error, check=kind)
                for metric in identities.INVARIANT
            ]
        for metric, value in zip(identities.CHANNELS, (ratio, error), strict=True):
            found.append(record(identities.TABLE, row, identities.KINDS[1], metric, value,
                                check=identities.KINDS[1]))  # fmt: skip
    return found


def cost(speedup=40.0, stderr=2.0, row="resnet20", column=costs.CLOSED, fidelity="reduced"):
    """What an exact method costs."""
    values = dict.fromkeys(costs.METRICS, 1.0) | {"speedup": speedup}
    return [
        record(costs.TABLE, row, column, metric, value, stderr if metric == "speedup" else None,
               fidelity, n=16)
        for metric, value in values.items()
    ]  # fmt: skip


def known():
    """The last layer of two networks, and all layers of ResNet20."""
    config = {"weights": "file", "images": 4, "side": 64, "data": "imagenet"}
    found = [
        record(networks.TABLE, row, networks.LAST, metric, 2.0, layers=["a"], **config)
        for row in ("resnet18", "resnet20")
        for metric in networks.OF_LAYER
    ]
    layers = ["conv1", "linear"]
    found += [
        record(networks.TABLE, "resnet20", networks.ALL, f"{metric} {layer}", 3.0, layers=layers,
               **config)
        for layer in layers
        for metric in ("kappa", "trace")
    ]  # fmt: skip
    return found


def all_measures(series):
    """Every measure with the same values."""
    return dict.fromkeys(MEASURES, series)
