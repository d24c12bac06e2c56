"""Planted records of the runs of section 4: what their figures and studies are made from."""

from collections.abc import Mapping

import numpy as np

from paper_tables.engine.records import Record, Source

SHA = "ab" * 32
EPOCHS = (0, 1, 2, 5, 10, 20, 50)
OF_CURVES = ("accuracy", "loss", "test_accuracy")


def series(rng, epochs=EPOCHS):
    """Values by (side, metric) that look like a training's."""
    t = np.log1p(np.array(epochs))
    noise = lambda size: 1 + size * rng.normal(size=len(t))  # noqa: E731
    return {
        ("training", "accuracy"): 100 - 90 * np.exp(-2 * t),
        ("generalization", "accuracy"): 10 + 5 * t * noise(0.1),
        ("training", "test_accuracy"): 97 - 87 * np.exp(-2 * t),
        ("training", "loss"): 2.3 * np.exp(-2 * t),
        ("generalization", "loss"): 2.3 + 2 * t * noise(0.1),
        ("training", "kh05"): 0.9 * np.exp(-0.3 * t) * noise(0.05),
        ("generalization", "kh05"): 0.9 + 0.02 * t * noise(0.2),
        ("training", "kh1"): 0.8 * np.exp(-0.6 * t) * noise(0.05),
        ("generalization", "kh1"): 0.8 * np.exp(-0.1 * t) * noise(0.05),
        ("training", "re"): 0.9 * np.exp(-1.4 * t) * noise(0.05),
        ("generalization", "re"): 0.9 * np.exp(-0.8 * t) * noise(0.05),
    }


def run(
    values: Mapping[tuple[str, str], object],
    *,
    row="lenet",
    pair="mnist-svhn",
    used=None,
    epochs=EPOCHS,
    length=None,
    training=0,
    stderr=0.02,
    fidelity="reduced",
    **settings,
):
    """The records of one run: `values` [E] by (side, metric), None where it was not measured.

    Args:
        values: what was measured.
        row: the network.
        pair: the paper's pair.
        used: the two data sets really used.
        epochs: when.
        length: epochs in all.
        training: the seed of the training.
        stderr: relative.
        fidelity: of all records.
        settings: of the criteria, such as m.
    """
    trained_on, other = used or (pair.partition("-")[0], pair.partition("-")[2])
    if used is None and pair == "cinic10-i-cifar10":
        trained_on, other = "cinic10-i", "cifar10"
    found = []
    for (side, metric), numbers in values.items():
        facts = {"dtype": "float32"}
        if metric not in OF_CURVES:
            facts |= {"m": 100, "probes": 1, "batches": 3, "batch_size": 120, "seed": 0}
            facts |= settings
        for epoch, value in zip(epochs, numbers, strict=True):
            if value is None:
                continue
            config = {"trained_on": trained_on, "other": other, "epoch": epoch,
                      "epochs": max(epochs) if length is None else length,
                      "training": {"seed": training, "data": trained_on}, **facts}  # fmt: skip
            found.append(
                Record(
                    table="generalization",
                    row=row,
                    column=f"{pair}/{side}",
                    metric=metric,
                    value=float(value),
                    stderr=None if stderr is None else abs(stderr * float(value)),
                    fidelity=fidelity,
                    data=Source(trained_on if side == "training" else other, SHA),
                    config=config,
                    **facts,
                )
            )
    return found


def absent(row="resnet20", pair="cinic10-i-cifar10", side="training"):
    """The record of a pair that could not be had."""
    return Record(
        table="generalization", row=row, column=f"{pair}/{side}", metric="kh05", value=None,
        verdict="not_run", reason="no such data", config={"row": row, "column": f"{pair}/{side}"},
    )  # fmt: skip
