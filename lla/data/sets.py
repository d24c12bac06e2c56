"""The data sets that lla knows, with torchvision's addresses where it has the set."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from torch import Tensor

from lla.data import digits, readers, shifted
from lla.data.registry import DataSet, Download, File, Form, grayscale, register

_LINES = Path(__file__).with_name("checksums.txt").read_text(encoding="utf-8").splitlines()
_CHECKSUMS = dict(line.split() for line in _LINES if not line.startswith("#"))  # file -> checksum


def _files(names: Iterable[str], folder: str = "") -> tuple[File, ...]:
    return tuple(File(folder + name, _CHECKSUMS[name]) for name in names)


def _bundled(name: str, make: Callable[[str], tuple[Tensor, Tensor]], note: str) -> DataSet:
    def read(folder: Path, files: Sequence[File], split: str) -> tuple[Tensor, Tensor]:
        return make(split)

    return DataSet(name, 10, (Form("substitute", note, read, {"train": (), "test": ()}),))


def _download(*urls: str, target: str, unpack: Literal["", "gz", "tar"] = "") -> Download:
    return Download(urls, _CHECKSUMS[urls[0].rpartition("/")[2]], target, unpack)


def _mnist_download(name: str) -> Download:
    servers = "https://ossci-datasets.s3.amazonaws.com/mnist", "http://yann.lecun.com/exdb/mnist"
    urls = (f"{server}/{name}.gz" for server in servers)
    return _download(*urls, target=f"MNIST/raw/{name}", unpack="gz")


_mnist = {
    split: [f"{prefix}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")]
    for split, prefix in (("train", "train"), ("test", "t10k"))
}
_mnist_form = Form(
    "paper",
    "MNIST, {split} split, complete.",
    readers.mnist,
    {split: _files(names, "MNIST/raw/") for split, names in _mnist.items()},
)
_mnist_downloads = {split: tuple(map(_mnist_download, names)) for split, names in _mnist.items()}
register(DataSet("mnist", 10, (_mnist_form,), _mnist_downloads))

_svhn = {split: f"{split}_32x32.mat" for split in ("train", "test", "extra")}
_svhn_whole = Form(
    "paper",
    "SVHN, cropped digits, {split} split, complete.",
    readers.svhn,
    {split: _files([name]) for split, name in _svhn.items()},
    ("svhn", "SVHN", ""),
)
_svhn_part = Form(
    "reduced",
    "The first 1083 training images of SVHN.",
    readers.npz,
    {"train": _files(["svhn_train_first1083.npz"])},
    ("svhn",),
)
_svhn_downloads = {
    split: (_download(f"http://ufldl.stanford.edu/housenumbers/{name}", target=f"svhn/{name}"),)
    for split, name in _svhn.items()
}
_svhn_set = register(DataSet("svhn", 10, (_svhn_whole, _svhn_part), _svhn_downloads))
register(grayscale(_svhn_set))

_cifar10_batches = {
    "train": [*(f"data_batch_{i}" for i in range(1, 6)), "batches.meta"],
    "test": ["test_batch", "batches.meta"],
}
_cifar10_whole = Form(
    "paper",
    "CIFAR-10, {split} split, complete.",
    readers.cifar10,
    {split: _files(names, "cifar-10-batches-py/") for split, names in _cifar10_batches.items()},
    ("", "cifar10", "CIFAR10"),
)
_cifar10_part = Form(
    "reduced",
    "Part of CIFAR-10's {split} split, byte-exact: 8152 training or 1017 test images.",
    partial(readers.npz, images="{split}_x", labels="{split}_y"),
    dict.fromkeys(_cifar10_batches, _files(["cifar10_lossless_subset.npz"])),
    ("cifar10",),
)
_cifar10_download = _download(
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    target="cifar-10-batches-py",
    unpack="tar",
)
_cifar10_downloads = dict.fromkeys(_cifar10_batches, (_cifar10_download,))
_cifar10_set = DataSet("cifar10", 10, (_cifar10_whole, _cifar10_part), _cifar10_downloads)
register(_cifar10_set)
register(shifted.derive(_cifar10_set))

# The files of CINIC-10 have no checksums of their own, so a folder is checked by its number of
# images.
_cinic10_download = _download(
    "https://datashare.ed.ac.uk/bitstream/handle/10283/3192/CINIC-10.tar.gz",
    "https://datashare.is.ed.ac.uk/bitstream/handle/10283/3192/CINIC-10.tar.gz",
    target="CINIC-10",
    unpack="tar",
)
for _name, _splits, _part in (
    ("cinic10", ("train", "valid", "test"), "complete"),
    ("cinic10-i", ("train", "test"), "without every image that comes from CIFAR-10"),
):
    _form = Form(
        "paper",
        f"CINIC-10, {{split}} split, {_part}.",
        partial(readers.cinic10, imagenet_only=_name == "cinic10-i"),
        {split: (File(split, images=90_000),) for split in _splits},
        ("CINIC-10", "cinic-10", "CINIC10", "cinic10"),
    )
    register(DataSet(_name, 10, (_form,), dict.fromkeys(_splits, (_cinic10_download,))))

register(
    _bundled(
        "digits",
        digits.handwritten,
        "scikit-learn's handwritten digits, 8 x 8, enlarged bilinearly to 20 x 20 and centred in "
        "28 x 28; every fifth image is the test split.",
    )
)
_rendered = _bundled(
    "rendered-digits",
    digits.rendered,
    "Digits drawn with the DejaVu fonts over clutter, 32 x 32, standing in for SVHN.",
)
register(_rendered)
register(grayscale(_rendered))
