"""Where the rows of a tracker go: a CSV file, and an object that takes scalars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lla.errors import InputError, WriteError, in_one_line
from lla.files import atomic_write, check_folder
from lla.report.text import csv_table
from lla.tracking.rows import Row, frame_of_rows, read_rows


@dataclass(frozen=True)
class Outputs:
    """A file and a writer, either of them or none.

    Args:
        csv: the file.
        writer: has `add_scalar(name, value, step)`.
        strict: raise what they raise.
    """

    csv: Path | None
    writer: Any
    strict: bool

    def check(self) -> None:
        """Find what cannot be used.

        Raises:
            InputError: the writer takes no scalars.
        """
        if self.writer is not None and not callable(getattr(self.writer, "add_scalar", None)):
            raise InputError(
                f"writer is {type(self.writer).__name__} without add_scalar(name, value, step): "
                "give a SummaryWriter of torch.utils.tensorboard, for example"
            )

    def open(self, resume: bool) -> list[Row]:
        """The rows that the file has already.

        Args:
            resume: whether it may have any.

        Raises:
            InputError: the file exists without `resume`, or is another one; there is none to
                resume.
            WriteError: it cannot be written.
        """
        if self.csv is None:
            if resume:
                raise InputError("resume needs the file of the rows: give csv=")
            return []
        check_folder(self.csv.parent)
        if resume:
            return read_rows(self.csv)
        if self.csv.exists():
            raise InputError(
                f"{self.csv} exists: name another file, remove it, or go on with its rows by "
                "resume=True"
            )
        return []

    def hand_on(self, rows: Sequence[Row]) -> list[str]:
        """Write all rows to the file, and the last one to the writer.

        Returns:
            What failed, in words.
        """
        last, failures = rows[-1], []
        try:
            if self.csv is not None:
                atomic_write(self.csv, csv_table(frame_of_rows(rows).reset_index()))
        except (WriteError, InputError) as error:
            if self.strict:
                raise
            failures.append(f"the rows are kept in memory, and {error}")
        try:
            for name, value in last.scalars().items() if self.writer is not None else ():
                self.writer.add_scalar(name, value, last.step)
        except Exception as error:  # of other people's code
            if self.strict:
                raise
            failures.append(f"the writer did not take step {last.step}, {in_one_line(error)}")
        return failures
