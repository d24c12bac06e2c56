"""Sets of photographs with ImageNet's 1000 classes: which sets there are, and in which folders."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lla.data import files as _files
from lla.data.images import Fidelity, Source
from lla.data.loading import Availability
from lla.data.picture_folders import CLASSES, LABELS, has_classes, list_folder, package_file, wnids
from lla.data.registry import get
from lla.errors import InputError, MissingDataError

Box = tuple[int, int, int, int]  # left, upper, right, lower in pixels, as Pillow has it


@dataclass(frozen=True, eq=False)
class PictureSet:
    """The pictures of a set, not yet read, and where they come from."""

    name: str
    split: str  # val, train, or all where the set has no splits or they are not known
    folder: Path  # that has the `files`
    files: tuple[str, ...]  # N paths below the folder with "/"
    labels: Tensor  # [N] int64, 0 <= label < classes
    source: Source
    fidelity: Fidelity
    note: str  # one sentence on what these pictures are
    boxes: tuple[Box, ...] | None = None  # N, if each picture is only a part of its file
    classes: int = CLASSES

    def __len__(self) -> int:
        return len(self.files)

    @property
    def wnids(self) -> tuple[str, ...]:
        """The WordNet id of each picture's class, N of them."""
        return tuple(wnids()[label] for label in self.labels.tolist())


_KNOWN = {  # in a data root: possible folders, advice
    "imagenet": (
        ("imagenet", "ILSVRC2012", "ImageNet", "imagenet-1k"),
        "put val/<wnid>/*.JPEG, as torchvision unpacks it, into imagenet/ of a data root "
        "(--data-root or LLA_DATA); it needs a registration, so nothing here downloads it",
    ),
    "ni": (
        ("ni", "NI"),
        f"put pictures and {LABELS} (file,class_index) into ni/ of a data root (--data-root or "
        "LLA_DATA), and run `lla data check-pictures` on that folder",
    ),
}
_BUNDLED = "sample-crops"
_SPLITS = {"val": ("validation", 50_000), "train": ("training", 1_281_167)}


def picture_names() -> tuple[str, ...]:
    """Name every set that `load_pictures` knows.

    >>> picture_names()
    ('imagenet', 'ni', 'sample-crops')
    """
    return (*_KNOWN, _BUNDLED)


def is_bundled(name: str) -> bool:
    """Whether a data or picture set needs no files, so that no data root is searched for it.

    Args:
        name: A registered data set, or one of `picture_names`.

    Raises:
        InputError: No set has that name.

    Example:
        >>> is_bundled("digits"), is_bundled("mnist"), is_bundled("sample-crops")
        (True, False, True)
    """
    if name in picture_names():
        return name == _BUNDLED
    return not any(files for form in get(name).forms for files in form.files.values())


def load_pictures(name: str, root: _files.Root = None) -> PictureSet:
    """Find a set of pictures, without decoding any.

    `imagenet` is searched for in `imagenet/`, `ILSVRC2012/`, `ImageNet/` and `imagenet-1k/` of the
    data root, `ni` in `ni/` and `NI/`. Of the layouts `val/<wnid>/*` and `train/<wnid>/*`
    (torchvision's), `labels.csv` and `<wnid>/*`, the first one that is found is taken. The index
    of a class is the rank of its wnid among all 1000, however few are present. `sample-crops` is
    bundled: 64 squares cut from scikit-learn's two sample photographs, labelled at random, so
    that everything runs without data.

    Args:
        name: One of `picture_names`.
        root: The data root; None takes LLA_DATA.

    Returns:
        The set. ImageNet is `paper` where its validation or training split is complete, else
        `reduced`; `ni` is always a `substitute`, as the paper's 64 pictures are not public.

    Raises:
        InputError: No such set, the data root is not a folder, or labels are wrong.
        MissingDataError: Not found; the message says where to put what.

    Example:
        >>> len(load_pictures("sample-crops"))
        64
    """
    if name == _BUNDLED:
        return _sample_crops()
    if name not in _KNOWN:
        raise InputError(
            f"there is no set of pictures {name!r}: choose from {', '.join(picture_names())}, or "
            "give a folder of your own to lla.data.read_pictures."
        )
    folders, advice = _KNOWN[name]
    top = _files.data_root(root)
    for folder in [] if top is None else [top / folder for folder in folders]:
        for split in _SPLITS:
            if has_classes(folder / split):
                return _read(folder / split, name, split)
        if (folder / LABELS).is_file() or has_classes(folder):
            return _read(folder, name, "all")
    reason = f"pictures {name!r} are not found: {advice}"
    if top is None:
        raise MissingDataError(f"{reason}; no data root is given.")
    raise MissingDataError(reason, str(top))


def read_pictures(folder: str | os.PathLike[str]) -> PictureSet:
    """Find the pictures of any folder with `labels.csv`, or with subfolders named by wnid.

    Args:
        folder: The folder.

    Returns:
        The set, named by the folder; a `substitute`, since no paper used it.

    Raises:
        InputError: No such folder, no labelled picture in it, or wrong labels.
    """
    place = _files.given_path(folder)
    return _read(place, place.resolve().name, "all")


def describe_pictures(root: _files.Root = None) -> tuple[Availability, ...]:
    """Whether each set of pictures is there, and what to do if not.

    Args:
        root: The data root; None takes LLA_DATA.

    Returns:
        One entry a set.

    Raises:
        InputError: The data root is not a folder.
    """
    _files.data_root(root)
    return tuple(_availability(name, root) for name in picture_names())


def _availability(name: str, root: _files.Root) -> Availability:
    try:
        found = load_pictures(name, root)
    except (InputError, MissingDataError) as error:  # the table shows its message
        return Availability(name, "all", False, None, None, None, str(error))
    place = None if found.source == "bundled" else found.folder
    return Availability(name, found.split, True, found.source, found.fidelity, place, found.note)


def _read(folder: Path, name: str, split: str) -> PictureSet:
    listing = list_folder(folder)
    if listing.problems:
        first, *more = listing.problems
        hint = f" ({len(more)} more: run `lla data check-pictures` on the folder)" if more else ""
        raise InputError(f"{folder}, {first.where}: {first.message.rstrip('.')}{hint}.")
    if not listing.entries:
        raise InputError(
            f"{folder} has no labelled pictures: give it a {LABELS} (file,class_index), or one "
            "subfolder a class, named by its wnid."
        )
    fidelity, note = _what(name, split, len(listing.entries))
    return PictureSet(
        name=name,
        split=split,
        folder=folder,
        files=tuple(file for file, _ in listing.entries),
        labels=torch.tensor([label for _, label in listing.entries]),
        source="data root",
        fidelity=fidelity,
        note=note,
    )


def _what(name: str, split: str, count: int) -> tuple[Fidelity, str]:
    """The fidelity of a set, and one sentence on it."""
    if name == "ni":
        return "substitute", (
            f"{count} photographs from outside ImageNet with its labels, in place of the paper's "
            "64, which are not public."
        )
    if name != "imagenet":
        return "substitute", f"{count} pictures of a folder with ImageNet's labels."
    if split in _SPLITS:
        what, complete = _SPLITS[split]
        if count == complete:
            return "paper", f"ImageNet-1K's {what} split, complete."
        return "reduced", f"{count} of the {complete} pictures of ImageNet-1K's {what} split."
    return "reduced", (
        f"{count} pictures of ImageNet-1K of no stated split: most likely training images, on "
        "which accuracy is higher than on the validation split."
    )


_CROPS = 64
_CROP_SEED = 0


def _sample_crops() -> PictureSet:
    """Choose the squares: sides 160 to 427, the height of both photographs, at any position."""
    china = package_file("sklearn", "datasets/images/china.jpg")
    if china is None:
        raise MissingDataError(
            "scikit-learn's sample photographs are not found: install scikit-learn again."
        )
    generator = torch.Generator().manual_seed(_CROP_SEED)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    width, height = 640, 427
    boxes, labels = [], []
    for _ in range(_CROPS):
        side = draw(160, height)
        left, upper = draw(0, width - side), draw(0, height - side)
        boxes.append((left, upper, left + side, upper + side))
        labels.append(draw(0, CLASSES - 1))
    return PictureSet(
        name=_BUNDLED,
        split="all",
        folder=china.parent,
        files=("china.jpg", "flower.jpg") * (_CROPS // 2),
        labels=torch.tensor(labels),
        source="bundled",
        fidelity="substitute",
        note=f"{_CROPS} squares cut from scikit-learn's two sample photographs, with labels drawn "
        "at random.",
        boxes=tuple(boxes),
    )
