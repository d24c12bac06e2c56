"""Small fakes in the official formats, read through the registry with their own checksums."""

import hashlib
import pickle
import struct

import numpy as np
import pytest
import scipy.io
from PIL import Image

from lla import data
from lla.data import File, readers
from lla.data.files import file_hash
from lla.errors import ChecksumError, InputError

RNG = np.random.default_rng(0)


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())


def expected(root, *paths, algorithm="md5"):
    return tuple(File(path, file_hash(root / path, algorithm)) for path in paths)


@pytest.fixture
def mnist(tmp_path, expect):
    images = RNG.integers(0, 256, (6, 28, 28), dtype=np.uint8)
    labels = np.array([3, 1, 4, 1, 5, 9], dtype=np.uint8)
    paths = [f"MNIST/raw/train-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")]
    for path, array in zip(paths, (images, labels), strict=True):
        write_idx(tmp_path / path, array)
    expect("mnist", 0, {"train": expected(tmp_path, *paths, algorithm="sha256")})
    return tmp_path, paths, images, labels


def test_mnist(mnist):
    root, _, images, labels = mnist
    read = data.load("mnist", "train", root)
    assert np.array_equal(read.images[:, 0].numpy(), images)
    assert read.labels.tolist() == labels.tolist()
    assert (read.source, read.fidelity, read.classes, len(read)) == ("data root", "paper", 10, 6)
    content = images.tobytes() + labels.astype(np.int64).tobytes()
    assert read.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("harm", ["truncated", "altered"])
def test_a_harmed_file_is_named_with_both_checksums(mnist, harm):
    root, paths, *_ = mnist
    path = root / paths[0]
    right = file_hash(path, "sha256")
    content = path.read_bytes()
    path.write_bytes(content[:-1] if harm == "truncated" else content[:-1] + b"\x00")
    with pytest.raises(ChecksumError) as caught:
        data.load("mnist", "train", root)
    for part in (paths[0], right, file_hash(path, "sha256")):
        assert part in str(caught.value)
    states = [check.state for check in data.verify("mnist", root)]
    assert states == ["wrong", "right"]


@pytest.mark.parametrize("folder", ["svhn", "SVHN", ""])
def test_svhn(tmp_path, expect, folder):
    images = RNG.integers(0, 256, (32, 32, 3, 5), dtype=np.uint8)
    labels = np.array([[10], [1], [2], [9], [10]], dtype=np.uint8)
    (tmp_path / folder).mkdir(exist_ok=True)
    scipy.io.savemat(tmp_path / folder / "test_32x32.mat", {"X": images, "y": labels})
    expect("svhn", 0, {"test": expected(tmp_path / folder, "test_32x32.mat")})
    read = data.load("svhn", "test", tmp_path)
    assert np.array_equal(read.images.numpy(), images.transpose(3, 2, 0, 1))
    assert read.images.is_contiguous()
    assert read.labels.tolist() == [0, 1, 2, 9, 0]
    assert read.fidelity == "paper"


def test_grayscale_set_reads_the_same_files(tmp_path, expect):
    images = RNG.integers(0, 256, (32, 32, 3, 2), dtype=np.uint8)
    scipy.io.savemat(tmp_path / "test_32x32.mat", {"X": images, "y": np.array([[1], [2]])})
    files = {"test": expected(tmp_path, "test_32x32.mat")}
    expect("svhn", 0, files)
    expect("svhn-gray", 0, files)
    colour, gray = (data.load(name, "test", tmp_path) for name in ("svhn", "svhn-gray"))
    assert gray.images.shape == (2, 1, 32, 32)
    assert np.array_equal(gray.images.numpy(), data.to_grayscale(colour.images).numpy())
    assert gray.sha256 != colour.sha256
    assert "luma" in gray.note


def write_cifar10(root, names, count=3):
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    content = {}
    for name in names:
        pixels = RNG.integers(0, 256, (count, 3072), dtype=np.uint8)
        labels = RNG.integers(0, 10, count).tolist()
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": labels}))
        content[name] = pixels.reshape(-1, 3, 32, 32), labels
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    return content


def test_cifar10(tmp_path, expect):
    batches = ["data_batch_1", "data_batch_2"]
    content = write_cifar10(tmp_path, [*batches, "test_batch"])
    paths = [f"cifar-10-batches-py/{name}" for name in (*batches, "test_batch", "batches.meta")]
    one, two, test, meta = expected(tmp_path, *paths)
    expect("cifar10", 0, {"train": (one, two, meta), "test": (test, meta)})
    for split, names in (("train", batches), ("test", ["test_batch"])):
        read = data.load("cifar10", split, tmp_path)
        images = np.concatenate([content[name][0] for name in names])
        assert np.array_equal(read.images.numpy(), images)
        assert read.labels.tolist() == [y for name in names for y in content[name][1]]
        assert read.fidelity == "paper"


class Evil:
    ran = False

    def __reduce__(self):
        return (setattr, (Evil, "ran", True))


@pytest.mark.hard_use("A CIFAR-10 file with another checksum is never unpickled")
def test_cifar10_never_unpickles_a_file_with_another_checksum(tmp_path, expect):
    write_cifar10(tmp_path, ["test_batch"])
    paths = [f"cifar-10-batches-py/{name}" for name in ("test_batch", "batches.meta")]
    test, meta = expected(tmp_path, *paths)
    (tmp_path / paths[0]).write_bytes(pickle.dumps(Evil()))
    expect("cifar10", 0, {"test": (test, meta)})
    with pytest.raises(ChecksumError, match="test_batch"):
        data.load("cifar10", "test", tmp_path)
    expect("cifar10", 0, {"test": (File(paths[0]), meta)})
    with pytest.raises(InputError, match="md5"):
        data.load("cifar10", "test", tmp_path)
    assert not Evil.ran


@pytest.fixture
def cinic10(tmp_path, expect):
    """Two CIFAR-10 and one ImageNet image a class in both of two splits."""
    pixels = {}
    for split in ("train", "valid"):
        for name in readers.CINIC10_CLASSES:
            folder = tmp_path / "cinic10" / split / name
            folder.mkdir(parents=True)
            for file in ("n02691156_7.png", "cifar10-test-12.png", "cifar10-train-3.png"):
                pixels[split, name, file] = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels[split, name, file]).save(folder / file)
    files = {split: (File(split, images=30),) for split in ("train", "valid")}
    expect("cinic10", 0, files)
    expect("cinic10-i", 0, {"train": files["train"]})
    return tmp_path, pixels


def test_cinic10(cinic10):
    root, pixels = cinic10
    read = data.load("cinic10", "valid", root)
    order = sorted(key for key in pixels if key[0] == "valid")
    assert np.array_equal(
        read.images.numpy(), np.stack([pixels[key].transpose(2, 0, 1) for key in order])
    )
    assert read.labels.tolist() == [label for label in range(10) for _ in range(3)]
    assert {check.state for check in data.verify("cinic10", root)} == {"right"}


def test_cinic10_i_has_no_image_from_cifar10_and_no_validation_split(cinic10):
    root, pixels = cinic10
    read = data.load("cinic10-i", "train", root)
    order = [("train", name, "n02691156_7.png") for name in readers.CINIC10_CLASSES]
    assert np.array_equal(
        read.images.numpy(), np.stack([pixels[key].transpose(2, 0, 1) for key in order])
    )
    assert read.labels.tolist() == list(range(10))
    with pytest.raises(InputError, match="no split 'valid'"):
        data.load("cinic10-i", "valid", root)


def test_cinic10_with_gray_images_in_the_files(cinic10):
    root, _ = cinic10
    gray = RNG.integers(0, 256, (32, 32), dtype=np.uint8)
    Image.fromarray(gray).save(root / "cinic10/train/airplane/cifar10-test-12.png")
    read = data.load("cinic10", "train", root)
    assert (read.images[0].numpy() == gray).all()


@pytest.mark.parametrize("harm", ["missing", "truncated", "other shape"])
def test_cinic10_with_a_harmed_file(cinic10, harm):
    root, _ = cinic10
    path = root / "cinic10/train/dog/n02691156_7.png"
    if harm == "missing":
        path.unlink()
        message = "29 PNG images where 30"
    elif harm == "truncated":
        path.write_bytes(path.read_bytes()[:200])
        message = "dog.n02691156_7.png is not a readable PNG"
    else:
        Image.fromarray(np.zeros((16, 16, 3), dtype=np.uint8)).save(path)
        message = r"dog.n02691156_7.png has the shape \(16, 16, 3\)"
    with pytest.raises(ChecksumError, match=message):
        data.load("cinic10", "train", root)
    if harm == "missing":
        assert [check.state for check in data.verify("cinic10", root)] == ["wrong", "right"]


def test_partial_files_are_reduced_and_have_only_their_splits(tmp_path, expect, no_data_root):
    images = RNG.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    (tmp_path / "svhn").mkdir()
    path = tmp_path / "svhn" / "svhn_train_first1083.npz"
    np.savez(path, x=images, y=np.array([1, 9, 2, 3]))
    expect("svhn", 1, {"train": expected(tmp_path / "svhn", path.name)})
    read = data.load("svhn", "train", tmp_path)
    assert read.fidelity == "reduced"
    assert np.array_equal(read.images.numpy(), images)
    with pytest.raises(FileNotFoundError, match=r"put test_32x32.mat into svhn/ of a data root"):
        data.load("svhn", "test", tmp_path)


def test_a_file_that_holds_no_set_of_images_is_refused(tmp_path, expect):
    (tmp_path / "svhn").mkdir()
    path = tmp_path / "svhn" / "svhn_train_first1083.npz"
    np.savez(path, x=np.zeros((4, 3, 32, 32), dtype=np.uint8), y=np.array([1, 10, 2, 3]))
    expect("svhn", 1, {"train": expected(tmp_path / "svhn", path.name)})
    with pytest.raises(ChecksumError, match="10 classes"):
        data.load("svhn", "train", tmp_path)


def test_registered_checksums_and_addresses_are_torchvision_s():
    torchvision = readers.import_torchvision()
    entries = {name: data.registry.SETS[name] for name in ("mnist", "svhn", "cifar10")}

    downloads = [item for split in entries["mnist"].downloads.values() for item in split]
    assert [(item.target.rpartition("/")[2] + ".gz", item.hash) for item in downloads] == [
        (name, f"md5:{md5}") for name, md5 in torchvision.datasets.MNIST.resources
    ]

    for split, (url, name, md5) in torchvision.datasets.SVHN.split_list.items():
        (item,) = entries["svhn"].downloads[split]
        assert (item.urls, item.hash) == ((url,), f"md5:{md5}")
        assert entries["svhn"].forms[0].files[split] == (File(name, f"md5:{md5}"),)

    base = torchvision.datasets.CIFAR10
    (item,) = entries["cifar10"].downloads["train"]
    assert (item.urls, item.hash) == ((base.url,), f"md5:{base.tgz_md5}")
    meta = [base.meta["filename"], base.meta["md5"]]
    for split, listed in (("train", base.train_list), ("test", base.test_list)):
        expected = [
            File(f"{base.base_folder}/{name}", f"md5:{md5}") for name, md5 in (*listed, meta)
        ]
        assert entries["cifar10"].forms[0].files[split] == tuple(expected)
