"""Saving and loading of result dataclasses: arrays in an npz file, the rest as JSON inside it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import numpy as np
import pydantic

from lla.errors import ChecksumError, InputError
from lla.files import atomic_open

T = TypeVar("T")

FLOATS = ("float32", "float64")  # of values in the type of the products
INTEGERS = ("int32", "int64")
_LARGEST = 2**64  # a seed may be as large as that
_PLAIN = pydantic.ConfigDict(strict=True, allow_inf_nan=False)


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


def load_result(
    cls: type[T],
    path: str | os.PathLike[str],
    faults: Callable[[T], Iterator[str]] = lambda _: iter(()),
) -> T:
    """Read what `save_result` wrote.

    Args:
        cls: the dataclass.
        path: the file.
        faults: yields what is wrong with a result, one clause each; only the first is asked for,
            so a check may rely on those before it.

    Raises:
        ChecksumError: the file is truncated or no npz file, or its values contradict each other.
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
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(foreign) from error
    if kind != cls.__name__:
        raise InputError(f"{path} holds {str(kind)[:80]}, not {cls.__name__}: name another file")
    try:
        found = cls(**plain, **arrays)
    except TypeError as error:
        raise InputError(foreign) from error
    fault = _wrong_type(cls, plain, arrays) or next(faults(found), None)
    if fault is not None:
        raise ChecksumError(f"{path} holds no {cls.__name__}, as {fault}: write it again")
    return found


def array_faults(
    result: Any, **expected: tuple[tuple[int, ...], str | tuple[str, ...]]
) -> Iterator[str]:
    """Yield what is wrong with the shapes and types of arrays.

    Args:
        result: a dataclass.
        **expected: for each field its shape, and its type or types.
    """
    for name, (shape, dtypes) in expected.items():
        array = getattr(result, name)
        dtypes = (dtypes,) if isinstance(dtypes, str) else dtypes
        if array.shape != shape:
            yield f"{name} has the shape {list(array.shape)}, not {list(shape)}"
        elif array.dtype.name not in dtypes:
            yield f"{name} is of type {array.dtype.name}, not {' or '.join(dtypes)}"


def _wrong_type(cls: type, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> str | None:
    """Name the first field that has another type than the dataclass says."""
    for name, hint in get_type_hints(cls).items():
        if (hint is np.ndarray) != (name in arrays) and (name in arrays or name in plain):
            return f"{name} is {'an' if name in arrays else 'no'} array"
        if name in plain:
            try:
                pydantic.TypeAdapter(hint, config=_PLAIN).validate_json(json.dumps(plain[name]))
            except (ValueError, RecursionError):  # pydantic's error is a ValueError
                return f"{name} is {_shown(plain[name])}"
            if isinstance(plain[name], int) and abs(plain[name]) > _LARGEST:
                return f"{name} is too large a number"
    return None


def _shown(value: Any) -> str:
    return repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:77]}..."
