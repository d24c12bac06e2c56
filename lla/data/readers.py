"""Readers of the official file formats. Each gives images [N, C, H, W] uint8, labels [N] int64.

Checksums are checked by the registry before a reader sees a file.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lla._torchvision import import_torchvision
from lla.data.picture_files import read_rgb
from lla.data.registry import File
from lla.errors import ChecksumError, InputError

Arrays = tuple[Tensor, Tensor]

CINIC10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


def mnist(folder: Path, files: Sequence[File], split: str) -> Arrays:
    """Read MNIST's idx files: `files` are the images, then the labels."""
    reader = import_torchvision().datasets.mnist
    images, labels = (folder / file.path for file in files)
    return reader.read_image_file(str(images)).unsqueeze(1), reader.read_label_file(str(labels))


def svhn(folder: Path, files: Sequence[File], split: str) -> Arrays:
    """Read one of SVHN's .mat files of cropped digits; the label 10 becomes the digit 0."""
    (file,) = files
    base = import_torchvision().datasets.SVHN
    # torchvision's reader, with the checksum of the registry, which may be another one.
    reader = type("SVHN", (base,), {"split_list": {split: ["", file.path, _md5(file)]}})
    read = reader(folder, split=split)
    return torch.from_numpy(np.ascontiguousarray(read.data)), torch.from_numpy(read.labels)


def cifar10(folder: Path, files: Sequence[File], split: str) -> Arrays:
    """Read CIFAR-10's Python batches: `files` are the batches, then the class names.

    They are pickles, which can run any code when they are read. torchvision checks their md5 before
    it opens them, so here they must have one.
    """
    base = import_torchvision().datasets.CIFAR10
    *data, meta = ([file.path.rpartition("/")[2], _md5(file)] for file in files)
    reader = type(
        "CIFAR10",
        (base,),
        {
            "base_folder": files[0].path.rpartition("/")[0],
            "train_list": data if split == "train" else [],
            "test_list": data if split == "test" else [],
            "meta": {**base.meta, "filename": meta[0], "md5": meta[1]},
        },
    )
    read = reader(folder, train=split == "train")
    images = np.ascontiguousarray(read.data.transpose(0, 3, 1, 2))
    return torch.from_numpy(images), torch.tensor(read.targets, dtype=torch.int64)


def _md5(file: File) -> str:
    algorithm, _, digest = (file.hash or "").partition(":")
    if algorithm != "md5":
        raise InputError(f"the registry must give {file.path} an md5, not {file.hash}.")
    return digest


def cinic10(folder: Path, files: Sequence[File], split: str, imagenet_only: bool = False) -> Arrays:
    """Read one split of CINIC-10's folders, in the order of class and file name.

    Args:
        folder: Holds the folder of the split.
        files: That folder.
        split: Its name.
        imagenet_only: Leave out the images that come from CIFAR-10: their names say so.
    """
    (file,) = files
    top = folder / file.path
    paths = [path for name in CINIC10_CLASSES for path in sorted((top / name).glob("*.png"))]
    if imagenet_only:
        paths = [path for path in paths if not path.name.startswith("cifar10-")]

    remedy = f"delete {folder} and get it again."
    images = np.empty((len(paths), 3, 32, 32), dtype=np.uint8)

    def read(index: int) -> None:
        try:
            picture, _ = read_rgb(paths[index])
        except InputError as error:
            raise ChecksumError(
                f"{paths[index]} is not a readable PNG image ({error}): {remedy}"
            ) from error
        pixels = np.asarray(picture)
        if pixels.shape != (32, 32, 3):
            raise ChecksumError(
                f"{paths[index]} has the shape {pixels.shape}, not (32, 32, 3): {remedy}"
            )
        images[index] = pixels.transpose(2, 0, 1)

    with ThreadPoolExecutor() as pool:
        list(pool.map(read, range(len(paths))))  # raises the first error
    labels = [CINIC10_CLASSES.index(path.parent.name) for path in paths]
    return torch.from_numpy(images), torch.tensor(labels, dtype=torch.int64)


def npz(
    folder: Path, files: Sequence[File], split: str, images: str = "x", labels: str = "y"
) -> Arrays:
    """Read two arrays of an npz file; `{split}` in their names is replaced by the split."""
    (file,) = files
    with np.load(folder / file.path, allow_pickle=False) as arrays:
        x, y = (torch.from_numpy(arrays[key.format(split=split)]) for key in (images, labels))
    return x, y
