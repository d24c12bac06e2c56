"""What results have in common: they are saved to a file and loaded from it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TypeVar

from lla.storage import load_result, save_result

T = TypeVar("T", bound="Saved")


class Saved:
    """A dataclass of arrays and plain values that an npz file can hold."""

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
        return load_result(cls, path, cls._faults)

    def _faults(self) -> Iterator[str]:
        """Yield what is wrong with the values, so that an altered file is refused."""
        raise NotImplementedError
