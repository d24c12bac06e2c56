"""Where data files lie, whether they are the ones expected, and how they get there."""

import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pooch

from lla.errors import ChecksumError, InputError, MissingDataError
from lla.files import check_folder, locked

Root = str | os.PathLike[str] | None  # a data root as callers give it


def cache_folder() -> Path:
    """Name the user's cache folder for data sets, where downloads go; it may not exist yet."""
    return Path(pooch.os_cache("lla")) / "data"


def data_root(root: Root = None) -> Path | None:
    """Name the data root: the argument, else the variable LLA_DATA, else None.

    Args:
        root: Folder given by the caller.

    Returns:
        An existing folder, or None where neither is given.

    Raises:
        InputError: The folder does not exist.
    """
    given = root if root is not None else os.environ.get("LLA_DATA") or None
    if given is None:
        return None
    folder = given_path(given)
    if not folder.is_dir():
        name = "the data root" if root is not None else "LLA_DATA"
        raise InputError(f"{name} is {folder}, which is no folder: name one that exists.")
    return folder


def given_path(path: str | os.PathLike[str]) -> Path:
    """A path as a caller gives it, which may begin with `~`.

    Raises:
        InputError: It begins with the home of an unknown user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{path} cannot be resolved ({error}): give the whole path.") from error


def file_hash(path: Path, algorithm: str) -> str:
    """Hash a file.

    Args:
        path: File to read.
        algorithm: A name that hashlib knows, such as `sha256` or `md5`.

    Returns:
        `algorithm:digest`, such as `sha256:2cf24d...`.
    """
    return f"{algorithm}:{pooch.file_hash(str(path), alg=algorithm)}"


def check_file(path: Path, expected: str) -> str:
    """Check that a file is the one expected.

    Args:
        path: File to read.
        expected: `algorithm:digest`, or the first 8 digits or more, as torchvision's file names
            have them.

    Returns:
        `algorithm:digest` in full.

    Raises:
        ChecksumError: It is another file, or truncated or altered.
        InputError: Fewer than 8 digits are expected.
    """
    algorithm, _, digest = expected.partition(":")
    if len(digest) < 8:
        raise InputError(f"{expected!r} is no checksum: give algorithm:digest, 8 digits or more.")
    found = file_hash(path, algorithm)
    if not found.startswith(expected):
        raise ChecksumError(
            f"{path} is {found} where {expected} is expected: it is truncated, altered or another "
            "file, so delete it and get it again."
        )
    return found


def download(
    urls: Sequence[str], expected: str, target: Path, unpack: str = "", progress: bool = False
) -> None:
    """Download a file, check it, unpack it, and put it in place all at once.

    A run that is killed leaves no half file behind under the target's name, and two at a time
    wait for each other.

    Args:
        urls: Addresses of the same file, tried in this order.
        expected: `algorithm:digest` of the file as downloaded, or as much of it as is known (8
            digits or more).
        target: File or folder that shall exist in the end. A file that is there is replaced, a
            folder is not: it may hold what is not ours to delete.
        unpack: `gz` for one compressed file, `tar` for an archive that becomes the folder
            `target` (with or without that folder's name inside), or nothing.
        progress: Show a progress bar.

    Raises:
        ChecksumError: An address gave another file than the one expected.
        InputError: The target is a folder that exists.
        MissingDataError: No address answered.
        WriteError: The target's folder cannot be written.
    """
    if target.is_dir():
        raise InputError(f"{target} exists but is not complete: delete it, then fetch again.")
    check_folder(target.parent)  # before anything is downloaded
    with (
        locked(target.parent / ".lla.lock"),
        tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as folder,
    ):
        archive = _retrieve(urls, expected, Path(folder), progress)
        content = _unpack(archive, unpack, target.name)
        os.replace(content, target)


def _retrieve(urls: Sequence[str], expected: str, folder: Path, progress: bool) -> Path:
    failures = []
    wrong = False  # whether an address gave another file
    algorithm, _, digest = expected.partition(":")
    # pooch knows whole digests alone, so a part of one is checked here.
    known = expected if len(digest) == 2 * hashlib.new(algorithm).digest_size else None
    for url in urls:
        try:
            path = pooch.retrieve(url, known, fname="download", path=folder, progressbar=progress)
            check_file(Path(path), expected)
            return Path(path)
        except (OSError, ValueError) as error:  # requests' errors among them
            failures.append(f"{url}: {error}")
            wrong |= isinstance(error, ChecksumError | ValueError)  # pooch raises the latter
            (folder / "download").unlink(missing_ok=True)  # else the next file is not looked at
            response = getattr(error, "response", None)
            if response is not None:
                response.close()  # pooch leaves the connection of a refused request open
    said = "; ".join(failures)
    if wrong:
        raise ChecksumError(f"no address gave the file that is {expected} ({said}).")
    raise MissingDataError(f"no address could be downloaded ({said}).")


def _unpack(archive: Path, unpack: str, name: str) -> Path:
    if not unpack:
        return archive
    content = archive.with_name("content")
    if unpack == "gz":
        with gzip.open(archive, "rb") as packed, content.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
        return content
    with tarfile.open(archive) as packed_files:
        _refuse_outsiders(packed_files, content)
        if hasattr(tarfile, "data_filter"):  # not in every 3.10 and 3.11
            packed_files.extractall(content, filter="data")
        else:
            packed_files.extractall(content)
    return content / name if (content / name).is_dir() else content


def _refuse_outsiders(archive: tarfile.TarFile, folder: Path) -> None:
    """Raise unless every member is a file or folder that ends up inside the folder."""
    inside = folder.resolve()
    for member in archive.getmembers():
        target = (inside / member.name).resolve()
        if not (member.isfile() or member.isdir()) or not target.is_relative_to(inside):
            raise InputError(
                f"the archive has a member {member.name!r} that is a link or leads outside: "
                "unpack it by hand if you trust it."
            )
