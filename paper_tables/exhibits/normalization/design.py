"""What the study varies, and how the columns of its records name it."""

from __future__ import annotations

from typing import Any

TABLE = "normalization"
CENTRED = "centred"  # uniform in [-1/2, 1/2): the paper's axes without their mean
AXES = ("uniform", CENTRED, "normal", "hessian")
RESCALINGS = ("layers", "filters")

# Minima of LeNet and their training: batch size, epochs, and the share of added examples with
# random labels. All three fit their training data.
MINIMA: dict[str, dict[str, Any]] = {
    "small batch": {"batch_size": 64, "epochs": 15, "poison": 0.0},
    "large batch": {"batch_size": 1000, "epochs": 120, "poison": 0.0},
    "poisoned": {"batch_size": 64, "epochs": 40, "poison": 0.5},
}


def parts_of(column: str) -> tuple[str, ...]:
    """What the column of a cell names, its kind first.

    >>> parts_of("random/eval/normal/filter")
    ('plane', 'random', 'eval', 'normal', 'filter')
    >>> parts_of("minima/poisoned/filter"), parts_of("rescaling/layers/filter")
    (('minima', 'poisoned', 'filter'), ('rescaling', 'layers', 'filter'))
    """
    parts = tuple(column.split("/"))
    return parts if parts[0] in ("minima", "rescaling") else ("plane", *parts)
