"""Checks of arguments that several functions share."""

from __future__ import annotations

from typing import Any

from lla.errors import InputError


def check_counts(**counts: Any) -> None:
    """Raise an error unless all are whole numbers.

    >>> check_counts(probes=2, steps=100)
    """
    for name, value in counts.items():
        if not hasattr(value, "__index__"):
            raise InputError(f"{name} is {value!r}: give a whole number")
