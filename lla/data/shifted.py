"""CIFAR-10 as if another camera had taken it: a stand-in for CINIC-10-i.

Labels and order are those of CIFAR-10; the pictures have fewer pixels, mixed colours, another
contrast and noise. All arithmetic is exact or rounded as in IEEE 754 (no powers, and no sums in an
order that a library chooses), so the bytes are the same on every machine.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lla.data.registry import DataSet, File, Form
from lla.errors import InputError

SEEDS = {"train": 0, "test": 1}

# Bounds between which each image's changes are drawn, such that a ResNet20 trained on CIFAR-10,
# with an accuracy of 92 % on its test images, has about 54 % on these.
SIDES = (20, 24, 28, 32)  # number of pixels, drawn separately for rows and columns
MIX = 0.8  # share of each colour channel that is taken from a random mean of all three
CONTRAST = (0.4, 1.0)
CURVE = (-0.7, 0.7)  # brightness: x becomes x + c x (1 - x), darker below 0 and brighter above
NOISE = (0.0, 4.0)  # standard deviation, of 255

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
_DRAWN = 14  # two sides, nine shares, contrast, curve, noise
_SLICE = 256  # images at a time: what they need stays in the cache


def derive(entry: DataSet) -> DataSet:
    """Derive `<name>-shifted`: the same files, labels and positions, other pictures.

    Args:
        entry: A data set of RGB images of 32 x 32.

    Returns:
        The new entry, not yet registered. Each of its forms is a substitute.
    """

    def changed(form: Form) -> Form:
        def read(folder: Path, files: Sequence[File], split: str) -> tuple[Tensor, Tensor]:
            images, labels = form.read(folder, files, split)
            return shift(images, SEEDS[split], _positions(folder, files, split)), labels

        note = (
            f"{form.note.rstrip('.')}, seen at fewer pixels, with mixed colours, another contrast "
            "and noise, by fixed seeds: stands in for CINIC-10-i."
        )
        return replace(form, fidelity="substitute", read=read, note=note)

    return replace(entry, name=f"{entry.name}-shifted", forms=tuple(map(changed, entry.forms)))


def _positions(folder: Path, files: Sequence[File], split: str) -> Tensor | None:
    """The positions of a part's images in the whole set, if its file has them."""
    path = folder / files[0].path
    if path.suffix != ".npz":
        return None
    with np.load(path, allow_pickle=False) as arrays:
        name = f"{split}_index"
        return torch.from_numpy(arrays[name]) if name in arrays else None


def shift(images: Tensor, seed: int, positions: Tensor | None = None) -> Tensor:
    """Show images at fewer pixels, with mixed colours, another contrast and noise.

    Each image has its own random stream, which depends on its position and the seed only, so a part
    of a set gives the same pictures as the whole set.

    Args:
        images: [N, 3, 32, 32] uint8.
        seed: Of the random changes.
        positions: [N] int64, positions of the images in the whole set; None counts from 0.

    Returns:
        [N, 3, 32, 32] uint8.

    Raises:
        InputError: The images have another shape or type, or the number of positions differs.
    """
    if images.shape[1:] != (3, _SIDE, _SIDE) or images.dtype != torch.uint8:
        raise InputError(
            f"shifting needs uint8 images [N, 3, 32, 32], not {images.dtype} {list(images.shape)}."
        )
    if positions is None:
        positions = torch.arange(len(images))
    if positions.shape != images.shape[:1]:
        raise InputError(
            f"there are {list(positions.shape)} positions for {len(images)} images: give one each."
        )
    shifted = np.empty(images.shape, dtype=np.uint8)
    places = positions.cpu().numpy().astype(np.uint64)
    pixels = images.cpu().numpy()
    for start in range(0, len(pixels), _SLICE):
        part = slice(start, start + _SLICE)
        shifted[part] = _shift(pixels[part], seed, places[part])
    return torch.from_numpy(shifted)


def _shift(pixels: np.ndarray, seed: int, positions: np.ndarray) -> np.ndarray:
    words = _words(seed, positions, _DRAWN + _PIXELS // 4)
    # 24 bits, which float32 holds exactly
    drawn = (words[:, :_DRAWN] >> np.uint64(40)).astype(np.float32) / np.float32(2**24)
    images = _resampled(pixels, drawn[:, :2])
    images = _mixed(images, drawn[:, 2:11].reshape(-1, 3, 3))
    images /= 255

    contrast, curve, noise = (
        (low + (high - low) * share).astype(np.float32).reshape(-1, 1, 1, 1)
        for (low, high), share in zip((CONTRAST, CURVE, NOISE), drawn[:, 11:].T, strict=True)
    )
    images = (images - 0.5) * contrast + 0.5
    images += curve * images * (1 - images)
    # The sum of two bytes is triangular, close enough to normal, with this standard deviation.
    deviation = math.sqrt((256**2 - 1) / 6)
    pairs = words[:, _DRAWN:].astype("<u8").view(np.uint8).reshape(-1, 2, *pixels.shape[1:])
    images *= 255
    images += (pairs.sum(1, dtype=np.int16) - np.int16(255)) * (noise / np.float32(deviation))
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)


def _resampled(pixels: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Average to the drawn number of pixels and enlarge again; values 0 to 255, float32."""
    images = pixels.astype(np.float32)
    chosen = (shares * len(SIDES)).astype(np.int64)
    for axis in range(2):
        images = images.swapaxes(2, 3)
        for number, side in enumerate(SIDES):
            mine = chosen[:, axis] == number
            images[mine] = images[mine] @ _weights(side).T
    # Sums of at most 255 * 256 * 256 < 2^24 are exact in float32, in any order.
    return images / 2**16


@cache
def _weights(side: int) -> np.ndarray:
    """Weights [32, 32] in 256ths: means over boxes, `side` of them, enlarged bilinearly."""
    large, small = np.arange(_SIDE), np.arange(side)
    # box and pixel overlap by so many 32nds of a box
    low = np.maximum(_SIDE * small[:, None], side * large)
    high = np.minimum(_SIDE * (small[:, None] + 1), side * (large + 1))
    boxes = np.maximum(high - low, 0)  # [side, 32]
    # centres in 64ths of a box, edges repeated
    centre = np.clip((2 * large + 1) * side - _SIDE, 0, 64 * (side - 1))
    bilinear = np.maximum(64 - abs(centre[:, None] - 64 * small), 0)  # [32, side]
    exact = bilinear @ boxes  # in 2048ths
    # rounded sums differ by whole 256ths, of which each row has 256
    return np.diff((np.cumsum(exact, axis=1) + 4) // 8, axis=1, prepend=0).astype(np.float32)


def _mixed(images: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Mix the channels: each keeps a part of itself and takes the rest from a mean of all."""
    total = shares[:, :, 0] + shares[:, :, 1] + shares[:, :, 2]
    means = shares / (total + np.float32(2**-24))[:, :, None]
    mix = np.eye(3, dtype=np.float32) * np.float32(1 - MIX) + means * np.float32(MIX)
    channels = [
        sum(mix[:, out, k, None, None] * images[:, k] for k in range(3)) for out in range(3)
    ]
    return np.stack(channels, axis=1)


def _words(seed: int, positions: np.ndarray, count: int) -> np.ndarray:
    """Random words [N, count] uint64, by the mixing function of SplitMix64 (Steele et al. 2014)."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    start = _mix64(np.array([seed % 2**64], dtype=np.uint64))
    streams = _mix64(start + golden * (positions + np.uint64(1)))[:, None]
    return _mix64(streams + golden * np.arange(1, count + 1, dtype=np.uint64))


def _mix64(words: np.ndarray) -> np.ndarray:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
