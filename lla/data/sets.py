"""The data sets that lla knows, with torchvision's checksums and addresses where it has the set."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from lla.data import digits, readers, shifted
from lla.data.registry import DataSet, Download, File, Form, grayscale, register


def _bundled(make: Callable[[str], tuple[Tensor, Tensor]], note: str) -> Form:
    def read(folder: Path, files: Sequence[File], split: str) -> tuple[Tensor, Tensor]:
        return make(split)

    return Form("substitute", note, read, files={"train": (), "test": ()})


# MNIST. torchvision has the md5 of the packed files; the sha256 of the unpacked ones were taken
# from files whose packed form has that md5.
def _mnist(prefix: str, kinds: dict[str, tuple[str, str]]) -> tuple[list[File], list[Download]]:
    files, downloads = [], []
    for kind, (md5, sha256) in kinds.items():
        path = f"MNIST/raw/{prefix}-{kind}-ubyte"
        name = f"{prefix}-{kind}-ubyte.gz"
        files.append(File(path, f"sha256:{sha256}"))
        urls = (
            f"https://ossci-datasets.s3.amazonaws.com/mnist/{name}",
            f"http://yann.lecun.com/exdb/mnist/{name}",
        )
        downloads.append(Download(urls, f"md5:{md5}", path, "gz"))
    return files, downloads


_train = _mnist(
    "train",
    {
        "images-idx3": (
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        "labels-idx1": (
            "d53e105ee54ea40749a09fcbcd1e9432",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
    },
)
_test = _mnist(
    "t10k",
    {
        "images-idx3": (
            "9fb629c4189551a2d022fa330f9573f3",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        "labels-idx1": (
            "ec29112dd5afa0611ce80d1b7f02629c",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    },
)
register(
    DataSet(
        "mnist",
        classes=10,
        forms=(
            Form(
                "paper",
                "MNIST, {split} split, complete.",
                readers.mnist,
                files={"train": tuple(_train[0]), "test": tuple(_test[0])},
            ),
        ),
        downloads={"train": tuple(_train[1]), "test": tuple(_test[1])},
    )
)

_SVHN_MD5 = {
    "train": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test": "eb5a983be6a315427106f1b164d9cef3",
    "extra": "a93ce644f1a588dc4d68dda5feec44a7",
}
_svhn = register(
    DataSet(
        "svhn",
        classes=10,
        forms=(
            Form(
                "paper",
                "SVHN, cropped digits, {split} split, complete.",
                readers.svhn,
                files={
                    split: (File(f"{split}_32x32.mat", f"md5:{md5}"),)
                    for split, md5 in _SVHN_MD5.items()
                },
                folders=("svhn", "SVHN", ""),
            ),
            Form(
                "reduced",
                "The first 1083 training images of SVHN.",
                readers.npz,
                files={
                    "train": (
                        File(
                            "svhn_train_first1083.npz",
                            "sha256:"
                            "f24b4cf14f6d614d2e08355ac8acd3acab0519867909ea47c80ead4e09068982",
                        ),
                    )
                },
                folders=("svhn",),
            ),
        ),
        downloads={
            split: (
                Download(
                    (f"http://ufldl.stanford.edu/housenumbers/{split}_32x32.mat",),
                    f"md5:{md5}",
                    f"svhn/{split}_32x32.mat",
                ),
            )
            for split, md5 in _SVHN_MD5.items()
        },
    )
)
register(grayscale(_svhn))

_CIFAR10_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
_cifar10_files = {
    name: File(f"cifar-10-batches-py/{name}", f"md5:{md5}") for name, md5 in _CIFAR10_MD5.items()
}
_cifar10_part = File(
    "cifar10_lossless_subset.npz",
    "sha256:04459e879cc51337ee81b24e0534e15d68783d6dfa748cb30e20628c9fb743a9",
)
_cifar10_download = Download(
    ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
    "md5:c58f30108f718f92721af3b95e74349a",
    "cifar-10-batches-py",
    "tar",
)
_cifar10 = register(
    DataSet(
        "cifar10",
        classes=10,
        forms=(
            Form(
                "paper",
                "CIFAR-10, {split} split, complete.",
                readers.cifar10,
                files={
                    "train": tuple(
                        file for name, file in _cifar10_files.items() if name != "test_batch"
                    ),
                    "test": (_cifar10_files["test_batch"], _cifar10_files["batches.meta"]),
                },
                folders=("", "cifar10", "CIFAR10"),
            ),
            Form(
                "reduced",
                "Part of CIFAR-10's {split} split, byte-exact: 8152 training or 1017 test images.",
                partial(readers.npz, images="{split}_x", labels="{split}_y"),
                files={"train": (_cifar10_part,), "test": (_cifar10_part,)},
                folders=("cifar10",),
            ),
        ),
        downloads={"train": (_cifar10_download,), "test": (_cifar10_download,)},
    )
)
register(shifted.derive(_cifar10))

# CINIC-10 (doi 10.7488/ds/2448). The archive's md5 is the one that many public loaders carry for
# the publisher's CINIC-10.tar.gz; the publisher's page states none that we know of. Its files have
# no checksums of their own, so a folder is checked by its number of images.
_cinic10_download = Download(
    (
        "https://datashare.ed.ac.uk/bitstream/handle/10283/3192/CINIC-10.tar.gz",
        "https://datashare.is.ed.ac.uk/bitstream/handle/10283/3192/CINIC-10.tar.gz",
    ),
    "md5:6ee4d0c996905fe93221de577967a372",
    "CINIC-10",
    "tar",
)
_CINIC10_FOLDERS = ("CINIC-10", "cinic-10", "CINIC10", "cinic10")
for _name, _splits, _imagenet_only, _note in (
    ("cinic10", ("train", "valid", "test"), False, "CINIC-10, {split} split, complete."),
    (
        "cinic10-i",
        ("train", "test"),
        True,
        "CINIC-10, {split} split, without every image that comes from CIFAR-10.",
    ),
):
    register(
        DataSet(
            _name,
            classes=10,
            forms=(
                Form(
                    "paper",
                    _note,
                    partial(readers.cinic10, imagenet_only=_imagenet_only),
                    files={split: (File(split, images=90_000),) for split in _splits},
                    folders=_CINIC10_FOLDERS,
                ),
            ),
            downloads=dict.fromkeys(_splits, (_cinic10_download,)),
        )
    )

register(
    DataSet(
        "digits",
        classes=10,
        forms=(
            _bundled(
                digits.handwritten,
                "scikit-learn's handwritten digits, 8 x 8, enlarged bilinearly to 20 x 20 and "
                "centred in 28 x 28; every fifth image is the test split.",
            ),
        ),
    )
)
_rendered = register(
    DataSet(
        "rendered-digits",
        classes=10,
        forms=(
            _bundled(
                digits.rendered,
                "Digits drawn with the DejaVu fonts over clutter, 32 x 32, standing in for SVHN.",
            ),
        ),
    )
)
register(grayscale(_rendered))
