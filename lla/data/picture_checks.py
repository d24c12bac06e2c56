"""Checks of a folder of pictures: unreadable files, wrong labels, duplicates, odd pictures."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lla.data.files import given_path
from lla.data.picture_batches import read_rgb
from lla.data.picture_folders import LABELS, Listing, list_folder, unlisted
from lla.errors import InputError
from lla.files import sha256_of_parts

_SHORT = 224  # pixels: a shorter side is enlarged by every network of the paper
_LONG = 3.0  # times the shorter side: the central square is then a third of the picture
_ORIENTATION = 0x0112  # EXIF tag


@dataclass(frozen=True)
class PictureCheck:
    """The answer of `check_pictures` for one picture or one line of its labels."""

    file: str  # path below the folder, or the line of the label file
    state: Literal["right", "odd", "wrong"]  # odd: usable, but perhaps not intended
    message: str  # empty if right


def check_pictures(folder: str | os.PathLike[str]) -> tuple[PictureCheck, ...]:
    """Check every picture of a folder and every line of its labels.

    Wrong are: a file that cannot be decoded or has more than 8 bits a channel; a class that is not
    in 0 to 999 or contradicts the wnid of its folder; a line without a file; a file or a picture
    (the decoded pixels) that occurs twice. Odd are: colours other than RGB, which are converted; a
    shorter side below 224 pixels; a side more than 3 times the other; an EXIF orientation, which is
    not applied; a picture without a label.

    Args:
        folder: With `labels.csv` (`file,class_index`), or with subfolders named by wnid.

    Returns:
        One entry a picture, or more if it has several problems.

    Raises:
        InputError: No such folder, no picture in it, or a label file that is not a table.
    """
    place = given_path(folder)
    listing = list_folder(place)
    checks = tuple(_checks(place, listing))
    if not checks:
        raise InputError(
            f"{place} has no pictures: put some there, and a {LABELS} (file,class_index)."
        )
    return checks


def _checks(folder: Path, listing: Listing) -> Iterator[PictureCheck]:
    for problem in listing.problems:
        yield PictureCheck(problem.where, "wrong", problem.message)
    seen: dict[str, str] = {}
    for file, _ in listing.entries:
        found = list(_picture(folder, file, seen))
        yield from found or [PictureCheck(file, "right", "")]
    for file in unlisted(folder, listing):
        yield PictureCheck(file, "odd", "it has no label, so it is not used.")


def _picture(folder: Path, file: str, seen: dict[str, str]) -> Iterator[PictureCheck]:
    """Say what is wrong or odd about one picture; `seen` has the contents so far."""
    from PIL import Image

    path = folder / file
    try:
        picture, _ = read_rgb(path)
    except InputError as error:
        yield PictureCheck(file, "wrong", str(error).replace(str(path), file))
        return
    content = sha256_of_parts([str(picture.size), picture.tobytes()])
    first = seen.setdefault(content, file)
    if first != file:
        yield PictureCheck(file, "wrong", f"it is the same picture as {first}: take one out.")
    with Image.open(path) as stored:
        mode, orientation = stored.mode, stored.getexif().get(_ORIENTATION, 1)
    if mode != "RGB":
        yield PictureCheck(file, "odd", f"it is {mode}, not RGB, and is converted.")
    if orientation != 1:
        message = "its EXIF orientation is not applied: turn the pixels themselves."
        yield PictureCheck(file, "odd", message)
    short, long = sorted(picture.size)
    size = f"{picture.width} x {picture.height} pixels"
    if short < _SHORT:
        yield PictureCheck(file, "odd", f"it has {size}, so it is enlarged to {_SHORT}.")
    if long > _LONG * short:
        yield PictureCheck(file, "odd", f"it has {size}, of which the central square is used.")
