"""Folders of pictures with ImageNet's 1000 classes: the pictures and their labels."""

import csv
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from lla._torchvision import import_torchvision
from lla.errors import InputError

CLASSES = 1000
LABELS = "labels.csv"
SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff"))

_WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Problem:
    """A file or a line of labels that cannot be used."""

    where: str  # file below the folder, or line of the label file
    file: str  # the file, as it is written there
    message: str  # one sentence


@dataclass(frozen=True)
class Listing:
    """The labelled pictures of a folder; none is decoded."""

    entries: tuple[tuple[str, int], ...]  # (path below the folder with "/", class index), sorted
    problems: tuple[Problem, ...]  # files and lines that cannot be used


def package_file(package: str, path: str) -> Path | None:
    """Find a file of a package without importing the package, which takes seconds."""
    spec = importlib.util.find_spec(package)
    places = (spec and spec.submodule_search_locations) or ()
    return next((Path(top) / path for top in places if (Path(top) / path).is_file()), None)


@cache
def wnids() -> tuple[str, ...]:
    """ImageNet's 1000 classes as WordNet ids: the index of a class is its position.

    Returns:
        The ids in ascending order, from the list that timm ships.

    Example:
        >>> wnids()[0], wnids()[999]
        ('n01440764', 'n15075141')
    """
    path = package_file("timm", "data/_info/imagenet_synsets.txt")
    if path is not None:
        return tuple(sorted(path.read_text(encoding="utf-8").split()))
    import_torchvision()
    from timm.data import ImageNetInfo

    return tuple(sorted(ImageNetInfo().label_names()))


@cache
def class_indices() -> dict[str, int]:
    """The index of each WordNet id of ImageNet's classes."""
    return {wnid: index for index, wnid in enumerate(wnids())}


def list_folder(folder: Path) -> Listing:
    """List a folder's pictures with their classes.

    With a file `labels.csv` (columns `file` and `class_index`, others are allowed) these are the
    pictures that it names; else all pictures in subfolders named by a WordNet id. A file in such a
    subfolder must have the class of this id in `labels.csv` too.

    Args:
        folder: The folder.

    Returns:
        Its listing, with every problem of the labels.

    Raises:
        InputError: There is no such folder, or `labels.csv` is not such a table.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: name one with pictures.")
    rows = _labelled(folder) if (folder / LABELS).is_file() else _by_wnid(folder)
    entries: dict[str, int] = {}
    problems = []
    for where, file, label in rows:
        message = _problem(folder, file, label, entries)
        if message:
            problems.append(Problem(where, file, message))
        else:
            entries[_plain(file)] = int(label)
    return Listing(tuple(sorted(entries.items())), tuple(problems))


def unlisted(folder: Path, listing: Listing) -> tuple[str, ...]:
    """Name the pictures anywhere below a folder that its listing does not mention.

    Args:
        folder: The folder.
        listing: Its listing.

    Returns:
        Paths below the folder with "/", sorted.
    """
    named = {file for file, _ in listing.entries}
    named |= {_plain(problem.file) for problem in listing.problems}
    found = (
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
    return tuple(sorted(set(found) - named))


def has_classes(folder: Path) -> bool:
    """Whether a folder has subfolders that are named by WordNet ids."""
    return folder.is_dir() and any(_WNID.fullmatch(path.name) for path in folder.iterdir())


def _labelled(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Give each row of `labels.csv` as (where, file, class index)."""
    path = folder / LABELS
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            table = csv.DictReader(lines)
            if not {"file", "class_index"} <= set(table.fieldnames or ()):
                raise InputError(
                    f"{path} has the columns {table.fieldnames}: its first line must name `file` "
                    "and `class_index`."
                )
            for row in table:
                file, label = (row["file"] or "").strip(), (row["class_index"] or "").strip()
                yield f"{LABELS} line {table.line_num}", file, label
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a table of comma-separated text ({error}).") from error


def _by_wnid(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Give each picture in the subfolder of a class as (where, file, class index)."""
    for inner in sorted(folder.iterdir()):
        if not (_WNID.fullmatch(inner.name) and inner.is_dir()):
            continue
        index = class_indices().get(inner.name, "")
        for path in sorted(inner.iterdir()):
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                file = f"{inner.name}/{path.name}"
                yield file, file, str(index)


def _problem(folder: Path, file: str, label: str, entries: dict[str, int]) -> str:
    """The reason why a labelled file cannot be used; empty if it can."""
    if not file:
        return "it names no file."
    plain = PurePosixPath(_plain(file))
    if plain.is_absolute() or ".." in plain.parts:
        return f"{file} leads out of the folder: give a path below it."
    if str(plain) in entries:
        return f"{file} is listed twice: leave one."
    parent = plain.parent.name
    rank = class_indices().get(parent)
    if _WNID.fullmatch(parent) and rank is None:
        return f"{file} is in a folder that is not one of ImageNet's 1000 classes: take it out."
    # int() would also take signs, blanks, underscores and other scripts' digits
    if not re.fullmatch(r"[0-9]{1,9}", label) or int(label) >= CLASSES:
        return f"{file} has the class {label!r}: give an index from 0 to {CLASSES - 1}."
    if rank is not None and rank != int(label):
        return f"{file} has the class {label}, but the folder {parent} is class {rank}: mend one."
    if not (folder / plain).is_file():
        return f"{file} does not exist: put it there, or take the line out."
    return ""


def _plain(file: str) -> str:
    """A path as written in a label file, with "/" between its parts."""
    return str(PurePosixPath(file.replace("\\", "/")))
