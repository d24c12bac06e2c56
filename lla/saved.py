"""What results have in common: files, plain values for JSON, and how a notebook shows them."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from typing import Any, ClassVar, TypeVar

from pydantic_core import to_json

from lla.shown import html_of
from lla.storage import load_result, save_result

T = TypeVar("T", bound="Saved")


class Saved:
    """A dataclass of arrays, plain values and other such results, which an npz file can hold.

    Attributes:
        LONG: names of the fields that have as many elements as the model has parameters.
        NOT_FINITE: names of the fields of numbers that may be NaN or infinite.
    """

    LONG: ClassVar[tuple[str, ...]] = ()
    NOT_FINITE: ClassVar[tuple[str, ...]] = ()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to an npz file."""
        save_result(self, path)

    @classmethod
    def load(cls: type[T], path: str | os.PathLike[str]) -> T:
        """Read from an npz file.

        Raises:
            ChecksumError: the file is truncated or not an npz file, or contradicts itself.
            InputError: it holds another type of result, or none of this library.
        """
        return load_result(cls, path)

    def to_dict(self, vectors: bool = False) -> dict[str, Any]:
        """The fields as plain values that `json.dumps` takes, and the `type` of the result.

        Arrays are lists. JSON has no infinite numbers and no NaN: they are the texts "Infinity",
        "-Infinity" and "NaN", which `float` reads.

        Args:
            vectors: also the fields with as many elements as the model has parameters, such as
                eigenvectors; `save` always keeps them.
        """
        left_out = () if vectors else self.LONG
        names = [f.name for f in dataclasses.fields(self) if f.name not in left_out]  # type: ignore[arg-type]
        return {"type": type(self).__name__, **plain({n: getattr(self, n) for n in names})}

    def _faults(self) -> Iterator[str]:
        """Yield what is wrong with the values, so that an altered file is refused."""
        yield from ()

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return html_of(self)


def plain(value: Any) -> Any:
    """Nested containers, dataclasses, arrays and numbers as `json.dumps` takes them.

    >>> import numpy as np
    >>> plain({"loss": np.array([0.5, np.inf]), "seed": 3})
    {'loss': [0.5, 'Infinity'], 'seed': 3}
    """
    return json.loads(to_json(value, inf_nan_mode="strings", fallback=lambda x: x.tolist()))
