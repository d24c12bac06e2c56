"""What is kept of one measurement, and tables of several."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lla.errors import InputError
from lla.hessian.criteria.criteria import Criteria

CRITERIA = ("re", "kh1", "kh05")


@dataclass(frozen=True)
class Row:
    """One measurement. What was not measured is None, never NaN."""

    step: int
    epoch: float | None = None
    re: float | None = None
    re_stderr: float | None = None
    kh1: float | None = None
    kh1_stderr: float | None = None
    kh05: float | None = None
    kh05_stderr: float | None = None
    loss: float | None = None  # mean over all examples of the batches
    seconds: float = 0.0  # that the measurement took
    products: int | None = None  # Hessian-vector products of one batch
    converged: bool | None = None  # whether every target was met; None without a target
    note: str = ""  # why there are no values, or what warnings said

    @classmethod
    def of(
        cls, found: Criteria, step: int, epoch: float | None, seconds: float, note: str = ""
    ) -> Row:
        """The row of criteria that were measured."""
        values: dict[str, float | None] = {}
        for name in CRITERIA:
            estimate = getattr(found, name)
            measured = math.isfinite(estimate.value)  # without a target it is NaN
            values[name] = float(estimate.value) if measured else None
            values[f"{name}_stderr"] = estimate.stderr if measured else None
        return cls(
            step,
            epoch,
            **values,
            loss=found.loss,
            seconds=seconds,
            products=found.matvecs,
            converged=found.converged,
            note=note,
        )

    def scalars(self) -> dict[str, float]:
        """The values that were measured, as `criteria/NAME`, for a log.

        >>> Row(10, re=0.5, loss=2.0, seconds=0.1).scalars()
        {'criteria/re': 0.5, 'criteria/loss': 2.0, 'criteria/seconds': 0.1}
        """
        names = [name for each in CRITERIA for name in (each, f"{each}_stderr")]
        found = {name: getattr(self, name) for name in (*names, "loss", "seconds")}
        return {f"criteria/{name}": value for name, value in found.items() if value is not None}


_COLUMNS = tuple(field.name for field in dataclasses.fields(Row))
_TYPES = {"step": "int64", "products": "Int64", "converged": "boolean", "note": "str"}


def frame_of_rows(rows: Sequence[Row]) -> pd.DataFrame:
    """One line a row, by step; NaN or NA where nothing was measured.

    >>> frame_of_rows([Row(10, re=0.5), Row(20)])["re"].tolist()
    [0.5, nan]
    """
    lines = [dataclasses.astuple(row) for row in rows]
    table = pd.DataFrame(lines, columns=list(_COLUMNS), dtype=object)
    kinds: dict[Any, Any] = {name: _TYPES.get(name, "float64") for name in _COLUMNS}
    return table.astype(kinds).set_index("step")


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """The rows of a CSV file that a `lla.Tracker` wrote; none if there is no file.

    Raises:
        InputError: the file is another one.
    """
    if not Path(path).exists():
        return []
    try:
        with Path(path).open(newline="", encoding="utf-8") as stream:
            lines = csv.DictReader(stream)
            if tuple(lines.fieldnames or ()) != _COLUMNS:
                raise ValueError("its columns are others")
            return [Row(**{name: _read(name, line) for name in _COLUMNS}) for line in lines]
    except (ValueError, KeyError, TypeError, OSError, csv.Error) as error:
        raise InputError(
            f"{path} holds no rows of a Tracker ({error}): name another file"
        ) from error


_READERS: Mapping[str, Callable[[str], Any]] = {
    "step": int,
    "products": int,
    "converged": {"True": True, "False": False}.__getitem__,
    "note": str,
}


def _read(name: str, line: Mapping[str, str]) -> Any:
    """A cell as the field of a row; an empty one is None where there may be none."""
    text = line[name]
    if text == "" and name not in ("step", "seconds", "note"):
        return None
    return _READERS.get(name, _number)(text)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"it holds {text}")
    return number
