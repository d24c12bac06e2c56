"""Two bundled sets: scikit-learn's handwritten digits and digits drawn with fonts over clutter."""

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
)
_RENDERED = {"train": (0, 10_000), "test": (1, 2_000)}  # split -> (seed, number of images)
_SIDE = 32


def handwritten(split: str) -> tuple[Tensor, Tensor]:
    """Read scikit-learn's 1797 handwritten digits, shaped like MNIST.

    The 8 x 8 values 0 to 16 become 0 to 255, are enlarged bilinearly to 20 x 20 and centred in
    28 x 28 zeros, which is how MNIST frames its digits. The interpolation is done in integers, so
    the bytes are the same on every machine. Every fifth image (index 4, 9, 14, ...) is the test
    split.

    Args:
        split: `train` (1438 images) or `test` (359).

    Returns:
        Images [N, 1, 28, 28] uint8 and labels [N] int64.
    """
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    small = values.astype(np.int64).reshape(-1, 8, 8)
    weights = _bilinear_tenths(8, 20)
    # Two passes in tenths give a factor of 100, and 16 becomes 255. Halves are rounded up.
    large = (255 * (weights @ small @ weights.T) + 800) // 1600
    images = np.pad(large, ((0, 0), (4, 4), (4, 4))).astype(np.uint8)[:, None]
    chosen = (np.arange(len(images)) % 5 == 4) == (split == "test")
    return torch.from_numpy(images[chosen]), torch.from_numpy(labels[chosen].astype(np.int64))


def _bilinear_tenths(small: int, large: int) -> np.ndarray:
    """Weights [large, small] in tenths: pixel centres at half integers, edges repeated."""
    weights = np.zeros((large, small), dtype=np.int64)
    for row in range(large):
        # centre in tenths of a small pixel; exact for 8 -> 20, where the ratio is 4 / 10
        centre = min(max(5 * (2 * row + 1) * small // large - 5, 0), 10 * (small - 1))
        left, rest = divmod(centre, 10)
        weights[row, left] += 10 - rest
        weights[row, min(left + 1, small - 1)] += rest
    return weights


def rendered(split: str) -> tuple[Tensor, Tensor]:
    """Draw digits with the DejaVu fonts that matplotlib ships, over clutter, as SVHN has them.

    There is a shaded background with lines and discs, the digit of the label in the middle, other
    digits cut off at its sides, blur and noise. Each image has its own random stream, so the set is
    the same, byte for byte, for equal versions of Pillow (which draws), matplotlib (for the fonts)
    and NumPy (for the random streams). Labels are 0, 1, ..., 9, 0, 1, ...

    Args:
        split: `train` (10000 images) or `test` (2000).

    Returns:
        Images [N, 3, 32, 32] uint8 and labels [N] int64.
    """
    # Drawing takes seconds, so each process does it once; the caller gets copies.
    images, labels = _render(*_RENDERED[split])
    return images.clone(), labels.clone()


@cache
def _render(seed: int, count: int) -> tuple[Tensor, Tensor]:
    images = np.empty((count, 3, _SIDE, _SIDE), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int64) % 10
    for index, label in enumerate(labels):
        drawn = _draw(int(label), np.random.default_rng([seed, index]))
        images[index] = drawn.transpose(2, 0, 1)
    return torch.from_numpy(images), torch.from_numpy(labels)


@cache
def _font(name: str, size: int) -> Any:
    import matplotlib
    from PIL import ImageFont

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"
    # The basic layout: the other one needs a library that some builds of Pillow lack.
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def _luma(colour: np.ndarray) -> float:
    return float(colour @ np.array([0.299, 0.587, 0.114]))


def _draw(digit: int, rng: np.random.Generator) -> np.ndarray:
    """Draw one image [32, 32, 3] uint8."""
    from PIL import Image, ImageDraw, ImageFilter

    back = rng.integers(0, 256, 3)
    ink = rng.integers(0, 256, 3)
    while abs(_luma(ink) - _luma(back)) < 70:
        ink = rng.integers(0, 256, 3)

    # The background has a gradient along a random direction.
    angle = rng.uniform(0, 2 * math.pi)
    rows, columns = np.mgrid[:_SIDE, :_SIDE] / (_SIDE - 1) - 0.5
    slope = (math.cos(angle) * columns + math.sin(angle) * rows)[..., None]
    ground = back + slope * rng.uniform(-60, 60, 3)
    image = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))

    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(0, 4)):
        ends = [int(end) for end in rng.integers(-8, _SIDE + 8, 4)]
        shade = tuple(int(c) for c in np.clip(back + rng.integers(-50, 51, 3), 0, 255))
        if rng.random() < 0.5:
            pen.line(ends, fill=shade, width=int(rng.integers(1, 4)))
        else:
            radius = int(rng.integers(2, 9))
            left, top = ends[:2]
            pen.ellipse((left, top, left + 2 * radius, top + 2 * radius), fill=shade)

    size = int(rng.integers(20, 31))
    font = _font(_FONTS[rng.integers(len(_FONTS))], size)
    x, y = _SIDE / 2 + rng.uniform(-2, 2), _SIDE / 2 + rng.uniform(-2, 2)
    mask = Image.new("L", (_SIDE, _SIDE))
    writer = ImageDraw.Draw(mask)
    writer.text((x, y), str(digit), fill=255, font=font, anchor="mm")
    for side in (-1, 1):
        if rng.random() < 0.5:
            offset = side * size * rng.uniform(0.75, 0.95)
            writer.text((x + offset, y), str(rng.integers(10)), fill=255, font=font, anchor="mm")
    mask = mask.rotate(float(rng.uniform(-12, 12)), resample=Image.Resampling.BILINEAR)
    image.paste(tuple(int(c) for c in ink), mask=mask)

    image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 1))))
    noisy = np.asarray(image) + rng.normal(0, rng.uniform(0, 12), (_SIDE, _SIDE, 3))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
