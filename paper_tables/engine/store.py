"""Finished cells and published records.

There are two places. The journal, `records/<table>.jsonl` in the work folder, says what was
finished in this checkout. The published records, `records/<table>.jsonl` in the folder of results,
are committed. A finished cell goes to the journal first, then it is compared with the published
records.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lla import files
from lla.errors import ChecksumError
from lla.saved import Saved
from paper_tables.engine import records
from paper_tables.engine.cells import Cell, settings_key
from paper_tables.engine.records import Record

# Relative difference that rounding alone may make between machines, thread counts and routes,
# where a value carries no (or by chance a tiny) standard error. Measured on LeNet: up to 3e-5. The
# legacy Lanczos loses orthogonality, which amplifies rounding: up to 11 %. A loss plane that
# explodes does so by the product of all layers, see `_rounding`.
ROUNDING = 1e-3
LEGACY_ROUNDING = 0.25
# Metrics that are rounding errors or times alone: another machine gives others.
ALONE = (
    "trace_error", "trace_bias_error", "kappa_error", "kappa_diag_error", "table_error",
    "kappa_change", "output_change", "next_ratio_normalized", "seconds_exact", "seconds_product",
    "speedup", "radius_change", "deviation", "rise", "seconds_informed", "seconds_full",
    "seconds_loop",
)  # fmt: skip
NOISE = 1e-12  # values below it are the rounding of numbers of order one


# Tables with so many records that each network has a file of its own.
SPLIT = ("table1",)


def records_file(folder: Path, table: str, row: str | None = None) -> Path:
    """The file of a table's records in the work folder or the folder of results.

    Args:
        folder: the work folder or the folder of results.
        table: the table.
        row: the network; it makes a difference only for tables in `SPLIT`.
    """
    name = f"{table}-{row}" if table in SPLIT and row else table
    return folder / "records" / f"{name}.jsonl"


def finished(cell: Cell, work: Path) -> list[Record] | None:
    """The records of a cell that was finished in this checkout.

    Returns:
        One record a metric, in the cell's order, or None if any of them or their artifact is
        missing.

    Raises:
        InputError: the journal is broken; the message names the line.
    """
    path = records_file(work, cell.table, cell.row)
    if not path.exists():
        return None
    place = (cell.table, cell.row, cell.column)
    mine = {
        record.metric: record
        for record in _read(path)
        if (record.table, record.row, record.column) == place
        and record.config_hash == cell.hash
        and record.value is not None
    }
    if not mine.keys() >= set(cell.metrics):
        return None
    found = [mine[metric] for metric in cell.metrics]
    return found if all(_has_artifact(record, work) for record in found) else None


def forget(cell: Cell, folder: Path) -> None:
    """Take the records of a cell out of a work folder, or a folder of results."""
    place = cell.place
    records.update_records(
        records_file(folder, cell.table, cell.row),
        lambda old: [r for r in old if (r.table, r.row, r.column, r.config_hash) != place],
    )


def finish(new: Sequence[Record], work: Path) -> None:
    """Write the records of one finished cell to the journal."""
    records.write_records(records_file(work, new[0].table, new[0].row), new)


def published(results: Path) -> list[Record]:
    """All published records.

    Raises:
        InputError: a file is broken; the message names file and line.
    """
    return [
        record for path in sorted((results / "records").glob("*.jsonl")) for record in _read(path)
    ]


def _read(path: Path) -> tuple[Record, ...]:
    """The records of a file, read and checked again only when it was written to."""
    stat = path.stat()
    return _parsed(path, stat.st_mtime_ns, stat.st_size, stat.st_ino)


@functools.lru_cache(maxsize=64)
def _parsed(path: Path, *_version: int) -> tuple[Record, ...]:
    return tuple(records.read_records(path))


@dataclass(frozen=True)
class Outcome:
    """The result of publishing a cell."""

    conflicts: tuple[str, ...]  # one sentence for each value that disagrees with its published one
    retrained: bool  # nothing was compared: the published records are of another training


def publish(new: Sequence[Record], work: Path, results: Path) -> Outcome:
    """Put the records of one cell among the published ones.

    A published record of equal configuration is replaced if the new value agrees with it, and left
    alone if not. A reason for not running gives way to a value, and never the other way round.

    Training amplifies rounding, so the same training on another machine ends with other weights,
    a network of its own: such records are not compared, and take the place of all published ones
    of the other network at these settings.

    Args:
        new: the cell's records.
        work: where its artifacts lie.
        results: where to publish.

    Returns:
        The outcome.
    """
    conflicts: list[str] = []
    retrained = False

    def merge(old: list[Record]) -> list[Record]:
        nonlocal retrained
        kept = {record.key: record for record in old if not any(_retrained(r, record) for r in new)}
        retrained = len(kept) < len(old)
        for record in new:
            place = record.key[:4]
            rivals = [other for other in kept.values() if other.key[:4] == place]
            if record.value is None and any(other.value is not None for other in rivals):
                continue
            for other in rivals:
                # a value, or a newer reason, takes the place of a reason
                if other.value is None and other.key != record.key:
                    del kept[other.key]
            message = conflict(record, kept.get(record.key))
            if message:
                conflicts.append(message)
                continue
            if record.artifact is not None:  # before the record that names it
                _copy(work / record.artifact.name, results / record.artifact.name)
            kept[record.key] = record
        return list(kept.values())

    records.update_records(records_file(results, new[0].table, new[0].row), merge)
    return Outcome(tuple(conflicts), retrained)


def conflict(new: Record, old: Record | None) -> str | None:
    """Compare a value with the published one of equal configuration.

    Returns:
        A sentence if they differ by more than 3 combined standard errors (and by more than
        rounding explains), else None.
    """
    if old is None or old.value is None or new.value is None:
        return None
    combined = math.hypot(new.stderr or 0.0, old.stderr or 0.0)
    allowed = 3 * combined + _rounding(new) * max(abs(new.value), abs(old.value))
    difference = abs(new.value - old.value)
    if difference <= max(allowed, NOISE):
        return None
    return (
        f"{new.table} {new.row} {new.column} {new.metric}: measured {new.value:.6g}, but the "
        f"published record of equal configuration has {old.value:.6g}, which is {difference:.2g} "
        f"away where {allowed:.2g} is allowed (3 combined standard errors and rounding); remove "
        "the published line if it is the one that is wrong"
    )


def _rounding(record: Record) -> float:
    """The relative difference that rounding alone may make in a value."""
    if record.legacy:
        return LEGACY_ROUNDING
    if record.metric == "ratio":
        if record.config.get("signed"):
            return 1.0  # signed sums come near zero, so a ratio to them may be anything
        return 0.5 if record.config.get("axes") == "hessian" else 0.05
    # the last digits decide how many points lie beyond float32's range or just below a cap
    if record.metric in ALONE:
        return 1.0
    return {"nonfinite": 1.0, "asymmetry": 0.1, "sublevel_points": 0.1}.get(record.metric, ROUNDING)


def save_artifact(content: bytes, name: str, work: Path) -> records.Source:
    """Write a file that belongs to a record.

    Args:
        content: of the file.
        name: relative to the work folder, and to the folder of results once published.
        work: the work folder.

    Returns:
        Its name and digest, for the record.
    """
    files.atomic_write(work / name, content)
    return records.Source(name, files.sha256_of_bytes(content))


def save_result(result: Saved, name: str, work: Path) -> records.Source:
    """Write a result, such as a plane, as a file that belongs to a record, see `save_artifact`."""
    path = work / name
    path.parent.mkdir(parents=True, exist_ok=True)
    result.save(path)
    return records.Source(name, files.sha256_of_file(path))


def artifact(record: Record, folder: Path) -> Path:
    """The file that a record names, after a check of its digest.

    Args:
        record: one with an artifact.
        folder: what its name is relative to.

    Raises:
        ChecksumError: it is another file, or missing.
    """
    assert record.artifact is not None
    path = folder / record.artifact.name
    if not path.is_file() or files.sha256_of_file(path) != record.artifact.sha256:
        raise ChecksumError(
            f"{record.artifact.name} is not the file that the record of {record.row} "
            f"{record.column} names: run its cell again with --recompute"
        )
    return path


def _retrained(new: Record, old: Record) -> bool:
    """Whether both come from the same training and settings, but not from the same weights."""
    names = ("state", "training", "epoch")
    return (
        "training" in new.config
        and None not in (new.weights, old.weights)
        and new.weights != old.weights
        and new.row == old.row
        and [new.config.get(name) for name in names] == [old.config.get(name) for name in names]
        and settings_key(new) == settings_key(old)
    )


def _copy(source: Path, target: Path) -> None:
    content = source.read_bytes()
    if not target.exists() or target.read_bytes() != content:
        files.atomic_write(target, content)


def _has_artifact(record: Record, work: Path) -> bool:
    if record.artifact is None:
        return True
    path = work / record.artifact.name
    return path.exists() and files.sha256_of_file(path) == record.artifact.sha256
