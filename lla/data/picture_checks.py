"""Checks of a folder of pictures: unreadable files, wrong labels, duplicates, odd pictures."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lla.data.files import given_path
from lla.data.picture_files import opened, read_rgb
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

    Wrong are: a file that cannot be decoded, has more than 8 bits a channel, more than 89,478,485
    pixels or a side more than 100 times the other; a class that is not in 0 to 999 or contradicts
    the wnid of its folder; a line without a file; a file or a picture (the decoded pixels) that
    occurs twice. Odd are: colours other than RGB, which are converted; a shorter side below 224
    pixels; a side more than 3 times the other; an EXIF orientation, which is not applied, or EXIF
    data that cannot be read; an animation; a picture without a label.

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
    yield from (PictureCheck(file, "odd", message) for message in _about_the_file(path))
    short, long = sorted(picture.size)
    size = f"{picture.width} x {picture.height} pixels"
    if short < _SHORT:
        yield PictureCheck(file, "odd", f"it has {size}, so it is enlarged to {_SHORT}.")
    if long > _LONG * short:
        yield PictureCheck(file, "odd", f"it has {size}, of which the central square is used.")


def _about_the_file(path: Path) -> Iterator[str]:
    """Say what is odd about a file beside its pixels."""
    content = path.read_bytes()
    with opened(content, path) as picture:
        mode = picture.mode
    if mode != "RGB":
        yield f"it is {mode}, not RGB, and is converted."
    try:
        with opened(content, path) as picture:
            orientation = picture.getexif().get(_ORIENTATION, 1)
            # cameras put a small copy of a photograph behind it, which Pillow calls MPO
            frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
    except InputError:
        yield "its EXIF data, or what follows the first frame, is damaged and not used."
        return
    if orientation != 1:
        yield "its EXIF orientation is not applied: turn the pixels themselves."
    if frames > 1:
        yield f"it has {frames} frames, of which the first is used."
