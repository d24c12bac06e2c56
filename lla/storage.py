"""Saving and loading of result dataclasses: arrays in an npz file, the rest as JSON inside it."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lla.errors import ChecksumError, InputError
from lla.files import atomic_open

T = TypeVar("T")


def save_result(result: Any, path: str | os.PathLike[str]) -> None:
    """Write a dataclass of arrays and plain values to an npz file.

    If writing fails, the file that was there is as it was: see `lla.files.atomic_open`.
    """
    fields = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
    plain = {name: value for name, value in fields.items() if name not in arrays}
    header = json.dumps({"type": type(result).__name__, "plain": plain})
    with atomic_open(path) as file:
        np.savez_compressed(file, allow_pickle=False, header=np.array(header), **arrays)


def load_result(cls: type[T], path: str | os.PathLike[str]) -> T:
    """Read what `save_result` wrote.

    Raises:
        ChecksumError: the file is truncated or no npz file.
        InputError: it holds another type of result, or none of this library.
    """
    try:
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            ours = "header" in file.files and file["header"].dtype.kind == "U"
            header = str(file["header"]) if ours else ""
            arrays = {name: file[name] for name in file.files if name != "header"} if ours else {}
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise ChecksumError(f"{path} cannot be read ({error}): write it again") from error
    foreign = f"{path} holds no {cls.__name__} that this library saved: name another file"
    try:
        parts = json.loads(header)
        kind, plain = parts["type"], parts["plain"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(foreign) from error
    if kind != cls.__name__:
        raise InputError(f"{path} holds a {kind}, not a {cls.__name__}")
    try:
        return cls(**plain, **arrays)
    except TypeError as error:
        raise InputError(foreign) from error
