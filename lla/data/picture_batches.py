"""From picture files to the batches of a problem: decode, resize, crop, normalise."""

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from lla.arguments import usable_device, whole_number
from lla.data.images import IMAGENET_MEAN, IMAGENET_STD, LARGEST_SIDE, draw, to_input
from lla.data.picture_files import check_size, read_rgb
from lla.data.pictures import PictureSet
from lla.errors import InputError
from lla.files import sha256_of_bytes, sha256_of_parts

if TYPE_CHECKING:  # Pillow is loaded with the first picture
    from PIL.Image import Image


@dataclass(frozen=True)
class PicturePreprocessing:
    """The preprocessing of a picture for a network, as torchvision and timm do it for evaluation.

    The shorter side is resized to `resize` (antialiased, by Pillow), the square of side `crop` in
    the centre is cut out, values are scaled to [0, 1], then normalised. Called on an RGB picture,
    it gives the tensor [3, crop, crop] in float32, equal bit for bit to what `Resize`,
    `CenterCrop`, `ToTensor` and `Normalize` of torchvision's transforms give.
    """

    resize: int = 256  # pixels
    crop: int = 224  # pixels
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        crop, resize = whole_number("crop", self.crop), whole_number("resize", self.resize)
        if resize > LARGEST_SIDE:
            raise InputError(
                f"resize is {resize} pixels: give at most {LARGEST_SIDE}, as no network takes more."
            )
        if not 1 <= crop <= resize:
            raise InputError(
                f"a crop of {crop} does not fit a shorter side of {resize}: give sides "
                "of 1 pixel or more, the crop not the larger."
            )
        if self.interpolation not in ("bilinear", "bicubic"):
            raise InputError(
                f"there is no interpolation {self.interpolation!r}: choose bilinear or bicubic."
            )
        if not all(value > 0 for value in self.std):
            raise InputError(f"std must be positive, not {self.std}.")

    def scaled(self, crop: int) -> "PicturePreprocessing":
        """The same view of a picture in another number of pixels, with both sides in proportion.

        Args:
            crop: Side of the result in pixels.

        Returns:
            Preprocessing with `resize` in proportion, rounded.

        Example:
            >>> PicturePreprocessing().scaled(128).resize
            146
        """
        crop = whole_number("crop", crop)
        resize = (2 * self.resize * crop + self.crop) // (2 * self.crop)  # a half rounds up
        return replace(self, crop=crop, resize=resize)

    def __call__(self, picture: "Image") -> Tensor:
        """Turn an RGB picture into network input [3, crop, crop].

        Raises:
            InputError: The picture is not RGB, has too many pixels, or is too long for its width.
        """
        from PIL.Image import Resampling

        if picture.mode != "RGB":
            raise InputError(f"the picture is {picture.mode}, not RGB: convert it first.")
        width, height = picture.size
        check_size(width, height, "the picture")
        short = min(width, height)
        # The longer side is truncated and a half is rounded to even, as torchvision does it.
        width, height = (self.resize * side // short for side in (width, height))
        left, upper = (round((side - self.crop) / 2) for side in (width, height))
        # Pillow resizes rows, rounds, and then resizes columns. So the columns that are cut off
        # need not be resized, and the result is the same to the last bit.
        method = Resampling[self.interpolation.upper()]
        columns = picture.resize((width, picture.height), method)
        columns = columns.crop((left, 0, left + self.crop, picture.height))
        square = columns.resize((self.crop, height), method)
        square = square.crop((0, upper, self.crop, upper + self.crop))
        pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()
        return to_input(pixels[None], mean=self.mean, std=self.std)[0]


@dataclass(frozen=True, eq=False)
class PictureBatches:
    """Batches of pictures, with the names and hashes of the pictures."""

    pairs: list[tuple[Tensor, Tensor]]  # x [batch_size, 3, crop, crop] floating, y int64
    files: tuple[str, ...]  # n names below the set's folder, in the order of the batches
    files_sha256: tuple[str, ...]  # n; for a part of a file: hash of the file's hash and the part
    sha256: str  # of the bytes of all x and y as float32 and int64, batch after batch
    pictures: PictureSet
    preprocessing: PicturePreprocessing
    skipped: tuple[str, ...] = ()  # files that could not be decoded


def picture_batches(
    pictures: PictureSet,
    preprocessing: PicturePreprocessing,
    batch_size: int,
    count: int | None = None,
    seed: int | None = None,
    skip_corrupt: bool = False,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> PictureBatches:
    """Make batches from a set of pictures, for a problem or the criteria.

    Args:
        pictures: The pictures.
        preprocessing: Of each picture; see `lla.models.picture_preprocessing` for a model's.
        batch_size: Pictures a batch.
        count: Number of full batches; None takes the whole set, and the last batch may be short.
        seed: Chooses pictures at random without replacement, the same ones on every machine that
            has the same files; None takes them in stored order.
        skip_corrupt: Replace a picture that cannot be decoded by the next one, with a warning that
            names it.
        device: Device of the batches; None takes the CPU.
        dtype: Floating type of the inputs.

    Returns:
        The pairs, with the names and hashes of their pictures.

    Raises:
        InputError: A size or count below 1, fewer pictures than asked for, one that cannot be
            decoded, or the same picture twice.

    Example:
        >>> from lla.data import load_pictures
        >>> small = PicturePreprocessing().scaled(32)
        >>> batches = picture_batches(load_pictures("sample-crops"), small, 4, count=2, seed=0)
        >>> batches.pairs[0][0].shape
        torch.Size([4, 3, 32, 32])
    """
    if not dtype.is_floating_point:
        raise InputError(f"network input needs a floating dtype, not {dtype}.")
    device = None if device is None else usable_device(device)
    what = f"{pictures.name} has {len(pictures)} pictures"
    order, wanted = draw(len(pictures), batch_size, count, seed, what)

    xs: list[Tensor] = []
    taken: dict[str, int] = {}  # sha256 -> index in the set
    skipped = []
    for index in order.tolist():
        if len(xs) == wanted:
            break
        try:
            picture, sha256 = _read(pictures, index)
        except InputError as error:
            if not skip_corrupt:
                raise
            warnings.warn(f"left out: {error}", stacklevel=2)
            skipped.append(pictures.files[index])
            continue
        if sha256 in taken:
            raise InputError(
                f"{pictures.files[index]} and {pictures.files[taken[sha256]]} of "
                f"{pictures.folder} are the same picture: take one out."
            )
        taken[sha256] = index
        xs.append(preprocessing(picture))
    if len(xs) < wanted and (count is not None or not xs):
        raise InputError(
            f"{pictures.name} has only {len(xs)} pictures that can be decoded, but {wanted} are "
            "needed: ask for fewer or smaller batches."
        )

    chosen = list(taken.values())
    pairs = [
        (torch.stack(xs[i : i + batch_size]), pictures.labels[chosen[i : i + batch_size]])
        for i in range(0, len(xs), batch_size)
    ]
    return PictureBatches(
        pairs=[(x.to(device, dtype), y.to(device)) for x, y in pairs],
        files=tuple(pictures.files[index] for index in chosen),
        files_sha256=tuple(taken),
        sha256=sha256_of_parts(tensor.numpy().data for pair in pairs for tensor in pair),
        pictures=pictures,
        preprocessing=preprocessing,
        skipped=tuple(skipped),
    )


def _read(pictures: PictureSet, index: int) -> tuple["Image", str]:
    """Decode one picture of a set; the parts of one file have different hashes."""
    picture, sha256 = read_rgb(pictures.folder / pictures.files[index])
    if pictures.boxes is None:
        return picture, sha256
    box = pictures.boxes[index]
    return picture.crop(box), sha256_of_bytes(f"{sha256} {box}")
