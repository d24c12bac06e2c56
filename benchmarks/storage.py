"""pytest-benchmark's storage of sessions, in files that are written whole or not at all."""

from __future__ import annotations

from typing import Any

from pytest_benchmark.storage.file import FileStorage
from pytest_benchmark.utils import safe_dumps

from lla.errors import WriteError
from lla.files import atomic_write


class WholeFiles(FileStorage):
    """Writes each session as pytest-benchmark does, but the whole file or nothing.

    Attributes:
        unwritten: whether a session could not be written; the log says why.
    """

    unwritten = False

    def save(self, output_json: dict[str, Any], save: str) -> None:
        """Write a session.

        Args:
            output_json: its content.
            save: the name, to which the next free number is prepended.
        """
        try:
            path = self.get(f"{self._next_num}_{save}.json")
            atomic_write(path, safe_dumps(output_json, ensure_ascii=True, indent=4))
        except WriteError as error:
            self.unwritten = True
            self.logger.error(str(error))
        else:
            self.logger.info(f"saved the session in {path}")
