"""The registry of data sets: name -> where it may be, how it is checked, read and fetched.

A data set has one or more forms, the most faithful first: for example the official files, then a
part of them. One call of `register` adds another set.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from torch import Tensor

from lla.data.images import Fidelity, to_grayscale
from lla.errors import InputError, unknown_name


@dataclass(frozen=True)
class File:
    """One file that a form is read from, or one folder of PNG images."""

    path: str  # below the form's folder, parts divided by "/"
    hash: str | None = None  # "md5:..." or "sha256:..."; None for a folder
    images: int | None = None  # number of PNG images in a folder; None for a file


Reader = Callable[[Path, Sequence[File], str], tuple[Tensor, Tensor]]  # folder, files, split


@dataclass(frozen=True)
class Form:
    """One form of a data set."""

    fidelity: Fidelity
    note: str  # one sentence on its images; {split} is replaced by the split
    read: Reader
    files: Mapping[str, tuple[File, ...]]  # split -> its files; () for a bundled form
    folders: tuple[str, ...] = ("",)  # possible places below the data root, the usual one first


@dataclass(frozen=True)
class Download:
    """One file on the internet, and where it is put."""

    urls: tuple[str, ...]  # mirrors of the same file
    hash: str  # of the file as downloaded
    target: str  # resulting file or folder, below the data root
    unpack: Literal["", "gz", "tar"] = ""


@dataclass(frozen=True)
class DataSet:
    """An entry of the registry."""

    name: str
    classes: int
    forms: tuple[Form, ...]  # the most faithful first
    downloads: Mapping[str, tuple[Download, ...]] = field(default_factory=dict)  # by split

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that at least one form has."""
        return tuple(dict.fromkeys(split for form in self.forms for split in form.files))


SETS: dict[str, DataSet] = {}


def register(entry: DataSet) -> DataSet:
    """Add a data set to the registry.

    Args:
        entry: The set; its name must be new.

    Returns:
        The entry.

    Raises:
        InputError: The name is taken.
    """
    if entry.name in SETS:
        raise InputError(f"a data set is already registered as {entry.name!r}: take another name.")
    SETS[entry.name] = entry
    return entry


def grayscale(entry: DataSet) -> DataSet:
    """Derive `<name>-gray`: the same files, read as the luma of ITU-R BT.601.

    Args:
        entry: A data set of RGB images.

    Returns:
        The new entry, not yet registered.
    """

    def gray(form: Form) -> Form:
        def read(folder: Path, files: Sequence[File], split: str) -> tuple[Tensor, Tensor]:
            images, labels = form.read(folder, files, split)
            return to_grayscale(images), labels

        return replace(form, read=read, note=form.note.rstrip(".") + ", as luma (ITU-R BT.601).")

    return replace(entry, name=f"{entry.name}-gray", forms=tuple(map(gray, entry.forms)))


def names() -> tuple[str, ...]:
    """Name every registered data set, in the order of registration."""
    return tuple(SETS)


def get(name: str) -> DataSet:
    """Look a data set up.

    Args:
        name: A registered name.

    Returns:
        Its entry.

    Raises:
        InputError: No data set has that name.
    """
    if name not in SETS:
        raise unknown_name("data set", name, SETS)
    return SETS[name]
