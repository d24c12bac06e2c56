"""Saving and loading of result dataclasses: arrays in an npz file, the rest as JSON inside it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import pydantic

from lla.errors import ChecksumError, InputError
from lla.files import atomic_open

T = TypeVar("T")

FLOATS = ("float32", "float64")  # of values in the type of the products
INTEGERS = ("int32", "int64")
_LARGEST = 2**64  # a seed may be as large as that


def save_result(result: Any, path: str | os.PathLike[str]) -> None:
    """Write a dataclass of arrays, plain values and other dataclasses to an npz file.

    If writing fails, the file that was there is as it was: see `lla.files.atomic_open`.
    """
    arrays: dict[str, np.ndarray] = {}
    plain = _fields(result, "", arrays)
    header = json.dumps({"type": type(result).__name__, "plain": plain})
    with atomic_open(path) as file:
        np.savez_compressed(file, allow_pickle=False, header=np.array(header), **arrays)


def _fields(result: Any, prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The fields of a dataclass that are no arrays; the arrays go where they are collected."""
    found = {}
    for field in dataclasses.fields(result):
        value = getattr(result, field.name)
        if isinstance(value, np.ndarray):
            arrays[prefix + field.name] = value
        else:
            found[field.name] = _plain(value, f"{prefix}{field.name}.", arrays)
    return found


def _plain(value: Any, prefix: str, arrays: dict[str, np.ndarray]) -> Any:
    """A value of a field, with the arrays of dataclasses inside it taken out."""
    if dataclasses.is_dataclass(value):
        return _fields(value, prefix, arrays)
    if isinstance(value, Mapping):
        return {key: _plain(item, f"{prefix}{key}.", arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{prefix}{i}.", arrays) for i, item in enumerate(value)]
    return value


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
            so a check may rely on those before it. Classes that have a method `_faults` are asked
            by it as well.

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
        raise ChecksumError(
            f"{path} cannot be read ({error}): remove it or write it again"
        ) from error
    foreign = f"{path} holds no {cls.__name__} that this library saved: name another file"
    try:
        parts = json.loads(header)
        kind, plain = parts["type"], parts["plain"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(foreign) from error
    if kind != cls.__name__:
        raise InputError(f"{path} holds {str(kind)[:80]}, not {cls.__name__}: name another file")
    try:
        found = _result(cls, plain, arrays, "")
        fault = next(faults(found), None)
    except _FaultError as error:
        fault = str(error)
    except TypeError as error:
        raise InputError(foreign) from error
    if fault is not None:
        raise ChecksumError(f"{path} holds no {cls.__name__}, as {fault}: write it again")
    return found


class _FaultError(ValueError):
    """What is wrong with a result, as a clause."""


def _result(cls: type[T], plain: dict[str, Any], arrays: dict[str, np.ndarray], prefix: str) -> T:
    """A dataclass from the plain values of its fields and from all arrays of the file.

    Raises:
        _FaultError: a value is of another type than the dataclass says, or contradicts others.
        TypeError: it has other fields.
    """
    starts = {name[len(prefix) :]: a for name, a in arrays.items() if name.startswith(prefix)}
    own = {name: array for name, array in starts.items() if "." not in name}
    fault = _wrong_type(cls, plain, own)
    if fault is not None:
        raise _FaultError(fault)
    hints = get_type_hints(cls)
    values = {
        name: _value(hints.get(name), value, arrays, f"{prefix}{name}.")
        for name, value in plain.items()
    }
    found = cls(**values, **own)
    fault = next(found._faults(), None) if hasattr(found, "_faults") else None
    if fault is not None:
        raise _FaultError(fault)
    return found


def _dataclass_in(hint: Any) -> type | None:
    """The dataclass of a hint such as `D`, `D | None`, `tuple[D, ...]` or `dict[str, D]`."""
    if dataclasses.is_dataclass(hint):
        return hint if isinstance(hint, type) else None
    return next(filter(None, map(_dataclass_in, get_args(hint))), None)


def _value(hint: Any, value: Any, arrays: dict[str, np.ndarray], prefix: str) -> Any:
    """The value of a field with the dataclasses in it; JSON has lists in place of tuples."""
    cls: Any = _dataclass_in(hint)
    kinds = {get_origin(each) or each for each in (hint, *get_args(hint))}
    if cls is None:
        return tuple(value) if isinstance(value, list) and tuple in kinds else value
    if isinstance(value, list) and tuple in kinds:
        return tuple(_result(cls, v, arrays, f"{prefix}{i}.") for i, v in enumerate(value))
    if isinstance(value, dict) and dict in kinds:
        return {key: _result(cls, v, arrays, f"{prefix}{key}.") for key, v in value.items()}
    if isinstance(value, dict) and not {tuple, dict} & kinds:
        return _result(cls, value, arrays, prefix)
    if value is None and type(None) in kinds:
        return None
    raise _FaultError(f"{prefix.rstrip('.')} is {_shown(value)}")


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


def _wrong_type(cls: type, plain: Any, arrays: dict[str, np.ndarray]) -> str | None:
    """Name the first field that has another type than the dataclass says."""
    if not isinstance(plain, dict):
        raise TypeError(f"{type(plain).__name__} is no mapping")
    for name, hint in get_type_hints(cls).items():
        array = hint is np.ndarray
        maybe = np.ndarray in get_args(hint)  # an array or None
        if name in arrays and not (array or maybe):
            return f"{name} is an array"
        if name in plain and (array or (maybe and plain[name] is not None)):
            return f"{name} is no array"
        if name in plain and not maybe and _dataclass_in(hint) is None:
            finite = name not in getattr(cls, "NOT_FINITE", ())
            config = pydantic.ConfigDict(strict=True, allow_inf_nan=not finite)
            try:
                pydantic.TypeAdapter(hint, config=config).validate_json(json.dumps(plain[name]))
            except (ValueError, RecursionError):  # pydantic's error is a ValueError
                return f"{name} is {_shown(plain[name])}"
            if isinstance(plain[name], int) and abs(plain[name]) > _LARGEST:
                return f"{name} is too large a number"
    return None


def _shown(value: Any) -> str:
    return repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:77]}..."
