"""Picture files: checked before they are decoded, and decoded as 8-bit RGB."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lla.errors import InputError, in_one_line
from lla.files import sha256_of_bytes

if TYPE_CHECKING:  # Pillow is loaded with the first picture
    from PIL.Image import Image

# What a folder of pictures may have in it. Pillow knows others too, and runs programs for some.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

_MOST_PIXELS = 89_478_485  # a quarter of a gigabyte in RGB, at which Pillow begins to warn
_MOST_BYTES = 4 * _MOST_PIXELS  # more than such a picture has without compression
_MOST_RATIO = 100  # of the sides: the longest panoramas are 20 times as long as high


def check_size(width: int, height: int, what: str) -> None:
    """Check that a picture is small enough to be resized, which lengthens both sides alike.

    Args:
        width: In pixels.
        height: In pixels.
        what: Which picture, for the message.

    Raises:
        InputError: It has no pixel, too many, or one side is more than 100 times the other.

    Example:
        >>> check_size(60000, 2, "picture line.png")
        Traceback (most recent call last):
        lla.errors.InputError: picture line.png has 60000 x 2 pixels: give one of at most ...
    """
    short, long = sorted((width, height))
    if short < 1 or width * height > _MOST_PIXELS or long > _MOST_RATIO * short:
        raise InputError(
            f"{what} has {width} x {height} pixels: give one of at most {_MOST_PIXELS:,} pixels, "
            f"with no side more than {_MOST_RATIO} times as long as the other."
        )


def read_rgb(path: Path) -> tuple["Image", str]:
    """Decode a picture file as 8-bit RGB.

    As in torchvision's loader, grey, palette and CMYK pictures are converted, transparency is
    dropped, an orientation in the EXIF data is not applied, and an animation is its first frame.

    Args:
        path: A file of the format BMP, GIF, JPEG, PNG, PPM, TIFF or WebP.

    Returns:
        The picture and the sha256 of the file.

    Raises:
        InputError: The file does not exist, is not a picture, is corrupt or truncated, or has more
            than 8 bits a channel, 89,478,485 pixels, or 100 times the shorter side.
    """
    content = _content(path)
    with opened(content, path) as picture:
        check_size(*picture.size, f"picture {path}")
        if _is_deep(picture):  # Pillow would cut off bits
            raise InputError(
                f"picture {path} has more than 8 bits a channel (mode {picture.mode}): save it as "
                "an 8-bit picture."
            )
        picture.load()
        if "transparency" in picture.info:  # else Pillow warns of palettes
            picture = picture.convert("RGBA")
        return picture.convert("RGB"), sha256_of_bytes(content)


@contextmanager
def opened(content: bytes, path: Path) -> Iterator["Image"]:
    """Open a picture without decoding it; an error of Pillow in the block gets the file's name.

    Args:
        content: Of the file.
        path: The file, for the message.

    Yields:
        The picture.

    Raises:
        InputError: Pillow cannot read what is asked of it in the block.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
            yield picture
    except (InputError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise errors of many types
        raise InputError(
            f"picture {path} cannot be decoded ({in_one_line(error)}): it is corrupt, truncated or "
            "no picture, so get it again or take it out."
        ) from error


def _is_deep(picture: "Image") -> bool:
    """Whether the file has more than 8 bits a channel; Pillow's mode RGB does not tell."""
    for part in getattr(picture, "tile", ()):  # Pillow's decoders and their arguments
        arguments = part[3] if isinstance(part[3], tuple) else (part[3],)
        deepest = arguments[-1] if part[0].startswith("ppm") else 0  # the largest value
        if any(";16" in str(each) for each in arguments) or (
            isinstance(deepest, int) and deepest > 255
        ):
            return True
    return picture.mode[0] in "IF"


def _content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise InputError(
                f"picture {path} has {size:,} bytes, more than a picture of {_MOST_PIXELS:,} "
                "pixels: take it out or save it smaller."
            )
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"picture {path} cannot be read ({error.strerror}).") from error
