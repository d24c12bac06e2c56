"""Small fakes of the data sets in their official file formats, for the registry to expect."""

import pickle
import struct
from dataclasses import replace

import numpy as np
import scipy.io
from PIL import Image

from lla.data import File, readers, registry
from lla.data.files import file_hash

# How many images each split gets. CINIC-10's are a multiple of its classes: 3 files a class, of
# which 2 come from CIFAR-10.
COUNTS = {
    "mnist": {"train": 6, "test": 4},
    "svhn": {"train": 5, "test": 3, "extra": 2},
    "cifar10": {"train": 10, "test": 3},
    "cinic10": {"train": 30, "valid": 30, "test": 30},
    "cinic10-i": {"train": 10, "test": 10},
}
CINIC10_FILES = ("n02691156_7.png", "cifar10-test-12.png", "cifar10-train-3.png")


def write(root, name, seed=0):
    """Write one data set below a data root.

    Args:
        root: The data root.
        name: A key of `COUNTS`; `cinic10-i` is read from the files of `cinic10`.
        seed: Of the pixels.

    Returns:
        What the registry must expect: split -> files with their checksums.
    """
    rng = np.random.default_rng(seed)
    writer = {"mnist": _mnist, "svhn": _svhn, "cifar10": _cifar10}.get(name, _cinic10)
    return writer(root, rng, COUNTS[name])


def _mnist(root, rng, counts):
    expected = {}
    for split, count in counts.items():
        prefix = {"train": "train", "test": "t10k"}[split]
        arrays = {
            "images-idx3": rng.integers(0, 256, (count, 28, 28), dtype=np.uint8),
            "labels-idx1": (np.arange(count) % 10).astype(np.uint8),
        }
        expected[split] = ()
        for kind, array in arrays.items():
            path = root / "MNIST" / "raw" / f"{prefix}-{kind}-ubyte"
            path.parent.mkdir(parents=True, exist_ok=True)
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            path.write_bytes(header + array.tobytes())
            expected[split] += (_file(path, root, "sha256"),)
    return expected


def _svhn(root, rng, counts):
    folder = root / "svhn"
    folder.mkdir()
    expected = {}
    for split, count in counts.items():
        path = folder / f"{split}_32x32.mat"
        images = rng.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        labels = (np.arange(count, dtype=np.uint8) % 10 + 1).reshape(-1, 1)  # 10 is the digit 0
        scipy.io.savemat(path, {"X": images, "y": labels})
        expected[split] = (_file(path, folder, "md5"),)
    return expected


def _cifar10(root, rng, counts):
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    sizes = {f"data_batch_{i}": counts["train"] // 5 for i in range(1, 6)}
    sizes["test_batch"] = counts["test"]
    for name, count in sizes.items():
        pixels = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        batch = {"data": pixels, "labels": rng.integers(0, 10, count).tolist()}
        (folder / name).write_bytes(pickle.dumps(batch))
    meta = folder / "batches.meta"
    meta.write_bytes(pickle.dumps({"label_names": list(readers.CINIC10_CLASSES)}))
    files = {name: _file(folder / name, root, "md5") for name in (*sizes, meta.name)}
    *train, test = (files[name] for name in sizes)
    return {"train": (*train, files[meta.name]), "test": (test, files[meta.name])}


def _cinic10(root, rng, counts):
    for split in COUNTS["cinic10"]:
        for label in readers.CINIC10_CLASSES:
            folder = root / "CINIC-10" / split / label
            if folder.exists():
                continue  # the other of the two sets has written them
            folder.mkdir(parents=True)
            for name in CINIC10_FILES:
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / name)
    return {split: (File(split, images=COUNTS["cinic10"][split]),) for split in counts}


def _file(path, folder, algorithm):
    return File(path.relative_to(folder).as_posix(), file_hash(path, algorithm))


def expect(monkeypatch, name, files, form=0):
    """Let the registry expect these files of a data set, and of those derived from it.

    Args:
        monkeypatch: pytest's.
        name: A registered name.
        files: What `write` gave.
        form: Which of its forms.
    """
    for other in (name, f"{name}-gray", f"{name}-shifted"):
        if other in registry.SETS:
            entry = registry.SETS[other]
            forms = list(entry.forms)
            forms[form] = replace(forms[form], files=files)
            monkeypatch.setitem(registry.SETS, other, replace(entry, forms=tuple(forms)))
