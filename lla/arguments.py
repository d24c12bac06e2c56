"""Arguments that are numbers, devices or folders: used as they are, or refused at the door."""

from __future__ import annotations

import math
import operator
import os
from pathlib import Path
from typing import Any

import torch

from lla.errors import InputError

_SEEDS = 2**64  # torch's generators take seeds below this
MOST_STEPS = 10_000  # of Lanczos; their cost grows with the square
MOST_DRAWS = 1_000_000  # the error of a mean of so many is a thousandth of their scatter


def whole_number(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """An argument that has to be a whole number, from `least` to `most` where they are given.

    >>> whole_number("steps", torch.tensor(100))
    100
    """
    try:
        number = int(operator.index(value))
    except TypeError as error:
        raise InputError(f"{name} is {value!r}: give a whole number") from error
    if (least is not None and number < least) or (most is not None and number > most):
        upper = "on" if most is None else f"to {most}"
        raise InputError(f"{name} is {number}: give a whole number from {least} {upper}")
    return number


def number_of_draws(name: str, value: Any, least: int = 1) -> int:
    """How often something random is done: a whole number up to a million.

    Args:
        name: of the argument.
        value: what was given.
        least: 2 where a standard error is taken of them.

    >>> number_of_draws("probes", 10)
    10
    """
    return whole_number(name, value, least, MOST_DRAWS)


def number_of_steps(steps: Any) -> int:
    """Lanczos steps for a spectrum: a whole number up to ten thousand.

    >>> number_of_steps(100)
    100
    """
    return whole_number("steps", steps, 1, MOST_STEPS)


def seed_number(seed: Any) -> int:
    """A seed: a whole number from 0 to 2**64 - 1.

    >>> seed_number(7)
    7
    """
    number = whole_number("seed", seed)
    if number < 0:
        raise InputError(f"the seed {number} is negative: choose 0 or more")
    if number >= _SEEDS:
        raise InputError(f"the seed {number} is too large: choose one below 2**64")
    return number


def positive_number(name: str, value: Any) -> float:
    """An argument that has to be a finite number above 0.

    >>> positive_number("rtol", 0.05)
    0.05
    """
    number = real_number(name, value)
    if not (number > 0 and math.isfinite(number)):
        raise InputError(f"{name} is {value}: give a positive number that is finite")
    return number


def real_number(name: str, value: Any) -> float:
    """An argument that has to be a number; infinite and NaN are numbers here.

    >>> real_number("cap", torch.tensor(10))
    10.0
    """
    try:
        if isinstance(value, str | bytes):
            raise TypeError("a text is no number")
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InputError(f"{name} is {value!r}: give a number") from error


def usable_device(device: torch.device | str) -> torch.device:
    """A device on which tensors can be made and read.

    Raises:
        InputError: there is none of this name, here or at all.

    >>> usable_device("cpu")
    device(type='cpu')
    """
    try:
        place = torch.device(device)
        torch.zeros(1, device=place).item()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        there = "cpu or cuda" if torch.cuda.is_available() else "cpu, since CUDA is not available"
        raise InputError(
            f"the device {str(device)!r} cannot be used here: choose {there}"
        ) from error
    return place


def folder_path(name: str, value: object) -> Path:
    """Check the path of a folder.

    >>> folder_path("checkpoint", "")
    Traceback (most recent call last):
    lla.errors.InputError: checkpoint is '': give the path of a folder
    """
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise InputError(f"{name} is {value!r}: give the path of a folder")
    return Path(value)
