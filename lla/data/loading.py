"""Data sets of the registry: load, describe, fetch and verify them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lla.data import files as _files
from lla.data.images import Fidelity, ImageSet, Source, content_sha256
from lla.data.registry import SETS, DataSet, File, Form, get
from lla.errors import ChecksumError, InputError, MissingDataError
from lla.random_states import RandomStates


@dataclass(frozen=True)
class Availability:
    """What `describe` says about one split of a data set."""

    name: str
    split: str
    available: bool
    source: Source | None  # "download": not here, and `fetch` can get it
    fidelity: Fidelity | None  # fidelity of the form that would be loaded; None if there is none
    folder: Path | None  # where it was found; None for a bundled set and for a missing one
    note: str  # what the images are, or how to get them


@dataclass(frozen=True)
class FileCheck:
    """What `verify` says about one file."""

    path: Path
    state: Literal["right", "wrong", "missing"]
    message: str  # empty if right


def load(
    name: str, split: str = "train", root: _files.Root = None, download: bool = False
) -> ImageSet:
    """Load one split of a data set, in the most faithful form that is available.

    It is searched for in the data root, then in the user's cache. With `download`, it is fetched
    into the cache if the most faithful form is in neither (the data root is only read). Files are
    checked against their checksums each time.

    Args:
        name: A registered name, see `names`.
        split: Such as `train` or `test`.
        root: The data root; None takes LLA_DATA.
        download: Whether it may be fetched.

    Returns:
        The images, with what they are and where they come from.

    Raises:
        InputError: No such data set or split, or the data root is not a folder.
        MissingDataError: Not found, or not downloadable; the message says where to put the files.
        ChecksumError: A file is truncated, altered or another one.
    """
    entry = get(name)
    if split not in entry.splits:
        raise InputError(
            f"data set {name!r} has no split {split!r}: choose from {', '.join(entry.splits)}."
        )
    found = _find(entry, split, root)
    best = entry.forms[0]
    if (
        download
        and entry.downloads.get(split)
        and (found is None or (found[0] is not best and split in best.files))
    ):
        cache = _files.cache_folder()
        fetch(name, cache, splits=(split,))
        found = best, cache / best.folders[0], "download"
    if found is None:
        reason = f"data set {name!r}, split {split!r}, is not found: {_advice(entry, split)}"
        raise MissingDataError(reason, _looked_in(root))
    form, folder, source = found
    _require(folder, form.files[split])
    with RandomStates().kept():  # packages may draw while they are imported
        images, labels = form.read(folder, form.files[split], split)
    _check_arrays(entry, folder, images, labels)
    return ImageSet(
        images=images,
        labels=labels,
        name=name,
        split=split,
        source=source,
        fidelity=form.fidelity,
        sha256=content_sha256(images, labels),
        note=form.note.format(split=split),
        classes=entry.classes,
    )


def describe(root: _files.Root = None) -> tuple[Availability, ...]:
    """Whether each split of each data set is there, and what to do if not.

    This only looks whether the files exist; `verify` reads them.

    Args:
        root: The data root; None takes LLA_DATA.

    Returns:
        One entry a split, in the order of registration.

    Raises:
        InputError: The data root is not a folder.
    """
    return tuple(
        _availability(entry, split, root) for entry in SETS.values() for split in entry.splits
    )


def _availability(entry: DataSet, split: str, root: _files.Root) -> Availability:
    found = _find(entry, split, root)
    if found is not None:
        form, folder, source = found
        note = form.note.format(split=split)
        place = folder if form.files[split] else None
        return Availability(entry.name, split, True, source, form.fidelity, place, note)
    downloadable = bool(entry.downloads.get(split))
    return Availability(
        name=entry.name,
        split=split,
        available=False,
        source="download" if downloadable else None,
        fidelity=entry.forms[0].fidelity if downloadable else None,
        folder=None,
        note=f"{_advice(entry, split)}; looked in {_looked_in(root)}",
    )


def fetch(
    name: str,
    root: _files.Root = None,
    splits: Sequence[str] = ("train", "test"),
    progress: bool = False,
) -> Path:
    """Download, check and unpack a data set; correct files that are there are kept.

    Args:
        name: A registered name.
        root: Folder to put it in, made where needed; None takes the user's cache.
        splits: Which splits; those that the data set does not have are ignored.
        progress: Show a progress bar.

    Returns:
        The folder with the data set, which can be used as a data root.

    Raises:
        InputError: No such data set, or a folder with its name is there and incomplete.
        MissingDataError: It cannot be downloaded: there is no address, or none answers.
        ChecksumError: The downloaded file is another one.
        WriteError: The folder cannot be written.
    """
    entry = get(name)
    folder = _files.cache_folder() if root is None else _files.given_path(root)
    form = entry.forms[0]
    if not any(form.files.values()):
        return folder  # bundled
    if not entry.downloads:
        raise MissingDataError(
            f"data set {name!r} cannot be downloaded: {_advice(entry, splits[0])}", _looked_in(None)
        )
    for split in splits:
        wanted = form.files.get(split, ())
        if any(
            all(_check(folder / below, file).state == "right" for file in wanted)
            for below in form.folders
        ):
            continue
        for item in entry.downloads.get(split, ()):
            target = folder / item.target
            try:
                _files.download(item.urls, item.hash, target, item.unpack, progress)
            except MissingDataError as error:
                raise MissingDataError(
                    f"data set {name!r}: {str(error).rstrip('.')}, so put "
                    f"{_wanted(entry, split)} yourself."
                ) from error
        _require(folder / form.folders[0], wanted)
    return folder


def verify(name: str, root: _files.Root = None) -> tuple[FileCheck, ...]:
    """Check every file of a data set that is in the data root or in the user's cache.

    Args:
        name: A registered name.
        root: The data root; None takes LLA_DATA.

    Returns:
        One entry for each file of every form of which at least one file exists; no entries for a
        bundled set.

    Raises:
        InputError: No such data set, or the data root is not a folder.
    """
    checks = []
    for form in get(name).forms:
        wanted = dict.fromkeys(file for files in form.files.values() for file in files)
        for top, _ in _roots(root):
            for folder in (top / below for below in form.folders):
                if any((folder / file.path).exists() for file in wanted):
                    checks += [_check(folder, file) for file in wanted]
    return tuple(checks)


def _require(folder: Path, files: Sequence[File]) -> None:
    for file in files:
        check = _check(folder, file)
        if check.state != "right":
            raise ChecksumError(check.message)


def _check(folder: Path, file: File) -> FileCheck:
    path = folder / file.path
    if not path.exists():
        return FileCheck(path, "missing", f"{path} is missing: get it again.")
    if file.hash is not None:
        try:
            _files.check_file(path, file.hash)
        except ChecksumError as error:
            return FileCheck(path, "wrong", str(error))
    if file.images is not None:
        count = sum(1 for _ in path.glob("*/*.png"))
        if count != file.images:
            message = f"{path} holds {count} PNG images where {file.images} are expected"
            return FileCheck(path, "wrong", f"{message}: delete it and get it again.")
    return FileCheck(path, "right", "")


def _roots(root: _files.Root) -> list[tuple[Path, Source]]:
    """The folders to search, in this order."""
    given = _files.data_root(root)
    cache: tuple[Path, Source] = _files.cache_folder(), "cache"
    return [cache] if given is None else [(given, "data root"), cache]


def _find(entry: DataSet, split: str, root: _files.Root) -> tuple[Form, Path, Source] | None:
    for form in entry.forms:
        if split not in form.files:
            continue
        if not form.files[split]:
            return form, Path(), "bundled"
        for top, source in _roots(root):
            for folder in (top / below for below in form.folders):
                if all((folder / file.path).exists() for file in form.files[split]):
                    return form, folder, source
    return None


def _wanted(entry: DataSet, split: str) -> str:
    """The files and their place as text: `a and b into c/ of the data root`."""
    form = entry.forms[0]
    paths = " and ".join(
        file.path if file.images is None else f"the folder {file.path}"
        for file in form.files.get(split, ())
    )
    place = f"{form.folders[0]}/ of" if form.folders[0] else "the top of"
    return f"{paths} into {place} a data root (--data-root or LLA_DATA)"


def _looked_in(root: _files.Root) -> str:
    """List the folders that data sets are looked for in."""
    return " and ".join(str(top) for top, _ in _roots(root))


def _advice(entry: DataSet, split: str) -> str:
    """Say where to put the files of a split, and how else to get them."""
    text = f"put {_wanted(entry, split)}"
    if downloads := entry.downloads.get(split):
        if downloads in (entry.downloads.get("train"), entry.downloads.get("test")):
            text += f", or run `lla data fetch {entry.name}`"
        else:
            text += f", or call `lla.data.fetch({entry.name!r}, splits=[{split!r}])`"
    return text


def _check_arrays(entry: DataSet, folder: Path, images: Tensor, labels: Tensor) -> None:
    """Raise an error unless the arrays from a reader are a set of labelled images."""
    if (
        images.ndim != 4
        or images.dtype != torch.uint8
        or labels.dtype != torch.int64
        or labels.shape != images.shape[:1]
        or len(labels) == 0
        or int(labels.min()) < 0
        or int(labels.max()) >= entry.classes
    ):
        raise ChecksumError(
            f"the files of {entry.name!r} in {folder} hold images {images.dtype} "
            f"{list(images.shape)} with labels {labels.dtype} {list(labels.shape)}, which is not "
            f"a set of labelled images with {entry.classes} classes: get them again."
        )
