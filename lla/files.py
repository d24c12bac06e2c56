"""Files: replaced as a whole or left as they are, and known by the SHA-256 of their content."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from lla.errors import InputError, WriteError

_LEFT_BEHIND = 3600.0  # seconds: an unfinished file that is older has no writer any more
_TRIES = 100  # of a folder that others try at the same time
_ROOM = 2**18  # bytes that a folder must take at least


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the system's refusal to write into one sentence.

    Args:
        path: the file or folder, as it was given.

    Raises:
        WriteError: the system refused something in the block. The library's own errors pass.
        InputError: no path can be this one.
    """
    if "\0" in str(path):
        raise InputError(f"{str(path)!r} holds a null character: name another place")
    try:
        yield
    except OSError as error:
        if error.errno is None:  # not the system's
            raise
        reason = error.strerror or type(error).__name__
        raise WriteError(
            f"{path} cannot be written ({reason}): make room there or name another place"
        ) from error


def check_folder(folder: str | os.PathLike[str]) -> None:
    """Find out whether files can be written into a folder, before hours of work for them.

    A small file is written and removed. A folder that does not exist is made for it and removed
    again, so that work which fails afterwards leaves nothing behind.

    Args:
        folder: where files are to be written.

    Raises:
        WriteError: they cannot be.
    """
    target = Path(folder)
    with writing(folder):
        for left in reversed(range(_TRIES)):
            try:
                _try_to_write(target)
            except (FileNotFoundError, FileExistsError) as error:
                # A file stands there, or another process makes or removes the folder: that passes.
                if left:
                    continue
                if os.path.lexists(target) and not target.is_dir():
                    raise WriteError(f"{folder} is no folder: name another place") from error
                raise
            else:
                return


def _try_to_write(folder: Path) -> None:
    """Write a small file into a folder, and remove it and the folders that were made for it."""
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(bytes(_ROOM))
            trial.flush()
            os.fsync(trial.fileno())
    finally:
        for path in missing:
            with contextlib.suppress(OSError):  # another process may use it already
                path.rmdir()


@contextlib.contextmanager
def atomic_open(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing, so that a reader sees the old content or all of the new.

    The content is written beside the file and takes its place when the block ends. If the block
    raises, the disk is full or the process is killed, the file is as it was. A finished file
    outlives a power cut, unless the file system cannot sync a folder.

    Args:
        path: the file, in a folder that exists; a link stays one, and what it names is replaced.

    Yields:
        The stream to write to.

    Raises:
        InputError: the path is there, but no regular file.
        WriteError: the disk is full, the folder is read-only or missing, or similar.
    """
    with writing(path):
        target = _checked_target(path)
        # A name of its own, so that two writers of one file do not write into each other's.
        beside = target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")
        try:
            with beside.open("xb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(beside, target)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink()
    if os.name == "posix":  # the rename itself is on disk only once its folder is
        _sync(target.parent)


def atomic_write(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file, so that a reader sees the old content or all of the new: see `atomic_open`.

    Args:
        path: the file; its folder is made if it is missing.
        content: text (written as UTF-8) or bytes.

    Raises:
        InputError, WriteError: see `atomic_open`.
    """
    with writing(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_open(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let one process at a time run the block; the lock ends with its process, even a killed one.

    Args:
        path: the lock file; made, with its folder, if it is missing. It stays there, empty.

    Raises:
        WriteError: it cannot be made.
    """
    lock = FileLock(path)
    with writing(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _sync(folder: Path) -> None:
    """Put what was renamed in a folder on disk, where the system can do that for a folder."""
    with contextlib.suppress(OSError):  # of a folder that cannot be read, or on a network
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256_of_parts(parts: Iterable[str | bytes | memoryview]) -> str:
    """Hash contents one after the other, as if they were one.

    Args:
        parts: texts (hashed as UTF-8), bytes, or the memory of arrays in C order.

    Returns:
        64 hexadecimal digits.

    >>> sha256_of_parts(["a", b"b"]) == sha256_of_bytes("ab")
    True
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()


def sha256_of_bytes(content: str | bytes | memoryview) -> str:
    """Hash a text (as UTF-8) or bytes: 64 hexadecimal digits."""
    return sha256_of_parts([content])


def sha256_of_file(path: str | os.PathLike[str]) -> str:
    """Hash the content of a file: 64 hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return sha256_of_parts(iter(lambda: stream.read(2**20), b""))


def _checked_target(path: str | os.PathLike[str]) -> Path:
    """The file that a path names, in a folder from which old unfinished files are removed."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise InputError(f"{path} is no regular file: name another")
    _remove_left_behind(target)
    return target


def _remove_left_behind(target: Path) -> None:
    """Remove what killed writers of a file left beside it."""
    for old in target.parent.glob(f".{glob.escape(target.name)}.{'?' * 8}.tmp"):
        with contextlib.suppress(OSError):  # another writer was faster, or the disk is read-only
            if time.time() - old.stat().st_mtime > _LEFT_BEHIND:
                old.unlink()
