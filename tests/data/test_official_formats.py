"""Every data set of the paper, small, in its official file format, through the registry.

That the pixels are the right ones is tested with the readers, in test_readers.py.
"""

import shutil

import pytest
import torch

from lla import data
from lla.errors import ChecksumError, MissingDataError

from . import official

SPLITS = [(name, split) for name, counts in official.COUNTS.items() for split in counts]
SHAPES = {"mnist": (1, 28, 28)}


@pytest.fixture
def root(tmp_path, monkeypatch, no_data_root):
    """A data root with all five."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in official.COUNTS:
        official.expect(monkeypatch, name, official.write(folder, name))
    return folder


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_each_split_is_read(root, name, split):
    found = data.load(name, split, root)
    count = official.COUNTS[name][split]
    assert found.images.shape == (count, *SHAPES.get(name, (3, 32, 32)))
    assert found.images.dtype == torch.uint8
    assert found.labels.shape == (count,)
    assert found.labels.dtype == torch.int64
    assert (found.name, found.split, found.fidelity) == (name, split, "paper")
    assert found.source == "data root"
    assert found.images.float().std() > 50, "random bytes"


@pytest.mark.parametrize(
    ("derived", "name"), [("svhn-gray", "svhn"), ("cifar10-shifted", "cifar10")]
)
def test_derived_sets_read_the_same_files(root, derived, name):
    for split in ("train", "test"):
        original, changed = (data.load(n, split, root) for n in (name, derived))
        assert torch.equal(original.labels, changed.labels)
        assert original.sha256 != changed.sha256
        assert changed.fidelity == ("paper" if derived == "svhn-gray" else "substitute")


def test_cinic10_i_is_what_of_cinic10_is_not_from_cifar10(root):
    for split in ("train", "test"):
        whole, part = (data.load(name, split, root) for name in ("cinic10", "cinic10-i"))
        files = sorted(official.CINIC10_FILES) * 10  # the order in which they are read
        kept = torch.tensor([not file.startswith("cifar10-") for file in files])
        assert torch.equal(part.images, whole.images[kept])
        assert torch.equal(part.labels, whole.labels[kept])


HARMED = {
    "mnist": "MNIST/raw/train-images-idx3-ubyte",
    "svhn": "svhn/train_32x32.mat",
    "svhn-gray": "svhn/train_32x32.mat",
    "cifar10": "cifar-10-batches-py/data_batch_3",
    "cifar10-shifted": "cifar-10-batches-py/batches.meta",
}


@pytest.mark.parametrize(("name", "path"), HARMED.items())
def test_another_file_is_refused(root, name, path):
    content = bytearray((root / path).read_bytes())
    content[-1] ^= 1
    (root / path).write_bytes(content)
    with pytest.raises(ChecksumError, match=path.rpartition("/")[2]):
        data.load(name, "train", root)
    assert "wrong" in {check.state for check in data.verify(name, root)}


@pytest.mark.parametrize("name", ["cinic10", "cinic10-i"])
@pytest.mark.parametrize("more", [True, False])
def test_another_number_of_files_is_refused(root, name, more):
    folder = root / "CINIC-10" / "train" / "ship"
    if more:
        shutil.copy(folder / official.CINIC10_FILES[0], folder / "n99999999_1.png")
    else:
        (folder / official.CINIC10_FILES[0]).unlink()
    with pytest.raises(ChecksumError, match="PNG images where 30 are expected"):
        data.load(name, "train", root)
    assert len(data.load(name, "test", root)) == official.COUNTS[name]["test"]


@pytest.mark.parametrize("name", official.COUNTS)
def test_nothing_of_it_is_there(tmp_path, name, no_data_root):
    with pytest.raises(MissingDataError, match=f"lla data fetch {name}"):
        data.load(name, "train", tmp_path)
