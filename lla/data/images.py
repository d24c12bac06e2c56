"""Sets of images, and how batches for a problem are made from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lla.arguments import seed_number, usable_device, whole_number
from lla.errors import InputError
from lla.files import sha256_of_parts

Source = Literal["data root", "cache", "download", "bundled", "package"]
Fidelity = Literal["paper", "reduced", "substitute"]

LARGEST_SIDE = 10_000  # pixels; no network takes more

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """The images of one split of one data set, with where they came from."""

    images: Tensor  # [N, C, H, W] uint8
    labels: Tensor  # [N] int64, 0 <= label < classes
    name: str
    split: str
    source: Source
    fidelity: Fidelity
    sha256: str  # of the bytes of images, then of labels: the same for every file format
    note: str  # one sentence on what these images are
    classes: int

    def __len__(self) -> int:
        return len(self.images)


def content_sha256(images: Tensor, labels: Tensor) -> str:
    """Hash the bytes of the images, then those of the labels.

    Args:
        images: [N, C, H, W] uint8.
        labels: [N] int64.

    Returns:
        64 hexadecimal digits.
    """
    return sha256_of_parts(t.cpu().contiguous().numpy().data for t in (images, labels))


def to_grayscale(images: Tensor) -> Tensor:
    """Turn RGB into the luma of ITU-R BT.601, in the 16-bit fixed point that Pillow uses.

    Args:
        images: [N, 3, H, W] uint8.

    Returns:
        [N, 1, H, W] uint8.

    Raises:
        InputError: The images are not RGB bytes.

    Example:
        >>> to_grayscale(torch.tensor([255, 0, 0], dtype=torch.uint8).reshape(1, 3, 1, 1)).item()
        76
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
        raise InputError(
            f"grayscale needs uint8 images [N, 3, H, W], not {images.dtype} {list(images.shape)}."
        )
    gray = torch.empty_like(images[:, :1])
    # In slices, so that a large set is never in int32 as a whole.
    for rgb, out in zip(images.split(4096), gray.split(4096), strict=True):
        r, g, b = rgb.to(torch.int32).unbind(1)
        out[:, 0] = (19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16
    return gray


def to_input(
    images: Tensor,
    size: int | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Turn stored images into network input: pad with zeros, scale to [0, 1], then normalise.

    The padding comes before the normalisation, so a border pixel has the value of a black pixel,
    (0 - mean) / std.

    Args:
        images: [N, C, H, W] uint8.
        size: Side to pad to, centred (an odd remainder goes right and below); None pads nothing.
        mean: Subtracted after the scaling: one number, or one a channel; None for no subtraction.
        std: The divisor after that: one number, or one a channel; None for no division.
        dtype: Floating type of the result.
        device: Device of the result; None keeps that of the images.

    Returns:
        [N, C, size, size], or [N, C, H, W] without `size`.

    Raises:
        InputError: The images are not uint8 [N, C, H, W], are larger than `size`, or have another
            number of channels than `mean` or `std`; or `std` is not positive.

    Example:
        >>> to_input(torch.full((1, 1, 1, 1), 255, dtype=torch.uint8), size=3).sum().item()
        1.0
    """
    if images.ndim != 4 or images.dtype != torch.uint8:
        raise InputError(
            f"images must be uint8 [N, C, H, W], not {images.dtype} {list(images.shape)}."
        )
    if not dtype.is_floating_point:
        raise InputError(f"network input needs a floating dtype, not {dtype}.")
    images = images if device is None else images.to(usable_device(device))
    if size is not None:
        size = whole_number("size", size, 0, LARGEST_SIDE)
        down, right = size - images.shape[2], size - images.shape[3]
        if down < 0 or right < 0:
            raise InputError(
                f"images of {images.shape[2]} x {images.shape[3]} cannot be padded to {size}: "
                "ask for a side at least as large."
            )
        images = F.pad(images, (right // 2, right - right // 2, down // 2, down - down // 2))
    x = images.to(dtype) / 255
    if mean is not None:
        x -= _per_channel("mean", mean, x)
    if std is not None:
        scale = _per_channel("std", std, x)
        if not bool((scale > 0).all()):
            raise InputError(f"std must be positive, not {std}.")
        x /= scale
    if not bool(x.isfinite().all()):
        raise InputError(
            f"the input with mean {mean} and std {std} overflows {dtype}: choose others."
        )
    return x


def _per_channel(name: str, value: float | Sequence[float], x: Tensor) -> Tensor:
    values = torch.as_tensor(value, dtype=x.dtype, device=x.device).reshape(-1, 1, 1)
    if not bool(values.isfinite().all()):
        raise InputError(f"{name} is {value}: give finite numbers.")
    if len(values) not in (1, x.shape[1]):
        raise InputError(
            f"{name} has {len(values)} values for images of {x.shape[1]} channels: "
            "give one number, or one a channel."
        )
    return values


def draw(
    size: int, batch_size: int, count: int | None, seed: int | None, what: str
) -> tuple[Tensor, int]:
    """The order [size] in which examples are taken, and how many are wanted.

    Args:
        size: Number of examples.
        batch_size: Examples a batch.
        count: Batches; None takes all examples.
        seed: Of a random order; None keeps the stored one.
        what: What there is, in words, for the error.

    Raises:
        InputError: A size or count below 1, or fewer examples than wanted.
    """
    batch_size = whole_number("batch_size", batch_size, 1, 2**62)
    count = None if count is None else whole_number("count", count, 1)
    seed = None if seed is None else seed_number(seed)
    wanted = size if count is None else count * batch_size
    if wanted > size or size == 0:
        raise InputError(
            f"{what}, but {count} batches of {batch_size} need {wanted}: ask for fewer or smaller "
            "batches."
        )
    if seed is None:
        return torch.arange(size), wanted
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed)), wanted


def batches(
    image_set: ImageSet,
    batch_size: int,
    count: int | None = None,
    seed: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    size: int | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Make batches from a set of images, for a problem, the criteria or a training.

    Args:
        image_set: The images.
        batch_size: Images a batch.
        count: Number of full batches; None takes the whole set, and the last batch may be short.
        seed: Chooses images at random without replacement, the same ones on every machine; None
            takes them in stored order.
        device: Device of the batches; None keeps that of the images.
        dtype: Floating type of the inputs.
        size: As in `to_input`.
        mean: As in `to_input`.
        std: As in `to_input`.

    Returns:
        Pairs (x [batch_size, C, H, W], y [batch_size] int64).

    Raises:
        InputError: A size or count below 1, or fewer images than asked for.
    """
    what = f"{image_set.name} {image_set.split} has {len(image_set)} images"
    order, wanted = draw(len(image_set), batch_size, count, seed, what)
    order = order[:wanted]
    return [
        (
            to_input(image_set.images[index], size, mean, std, dtype, device),
            image_set.labels[index].to(device),
        )
        for index in order.split(int(batch_size))
    ]
