"""Files of tensors that are damaged, hostile or of an odd kind."""

import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import lla.storage
from lla import checkpoints, models
from lla.errors import (
    ChecksumError,
    InputError,
    InsufficientMemoryError,
    MissingDataError,
    NonFiniteError,
)
from lla.landscape.plane_values import PlaneValues
from lla.tensor_files import read

OWN = (ChecksumError, InputError, InsufficientMemoryError, MissingDataError, NonFiniteError)
TRIALS = 500


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def save_old(state, path):
    torch.save(state, path, _use_new_zipfile_serialization=False)


SAVED = {"zip.pt": torch.save, "old.pt": save_old, "net.safetensors": save_file}


def damaged(content, seed):
    """Content with one flipped bit or, every fifth time, cut off."""
    rng = np.random.default_rng(seed)
    if seed % 5 == 0:
        return content[: rng.integers(len(content))]
    harmed = bytearray(content)
    harmed[rng.integers(len(content))] ^= 1 << rng.integers(8)
    return bytes(harmed)


def equal(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.values(), two.values(), strict=True))


def outcomes(path, attempt, trials=TRIALS):
    """What became of reading a file after each of many damages: right, wrong or an own error."""
    content = path.read_bytes()
    found = {"right": 0, "wrong": 0, "refused": 0}
    for seed in range(trials):
        path.write_bytes(damaged(content, seed))
        try:
            found["right" if attempt() else "wrong"] += 1
        except OWN:
            found["refused"] += 1
    path.write_bytes(content)
    return found


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, about what is in a damaged file
@pytest.mark.hard_use(
    "500 flipped bits and truncations of a weight file: torch.save's archive gives the right "
    "weights or an error, and so does every format if its hash is known"
)
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("name", SAVED)
def test_damaged_weights(tmp_path, name, known, record_property):
    path, model = tmp_path / name, net()
    SAVED[name](model.state_dict(), path)
    sha256 = models.load_weights(net(1), path) if known else None

    def attempt():
        other = net(1)
        models.load_weights(other, path, sha256)
        return equal(other.state_dict(), model.state_dict())

    found = outcomes(path, attempt)
    said = ", ".join(f"{count} {what}" for what, count in found.items())
    record_property("measured", f"{name}{' with its hash' if known else ''}: {said}")
    if name == "zip.pt" or known:
        assert found["wrong"] == 0
    if known:
        assert found["right"] == 0


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.hard_use("500 flipped bits and truncations of a training checkpoint are found")
def test_damaged_checkpoint(tmp_path, record_property):
    path, model = tmp_path / "run.pt", net()
    optimizer = torch.optim.Adam(model.parameters())
    content = {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    checkpoints.write_checkpoint(path, content)

    def attempt():
        back = checkpoints.read_checkpoint(path, net())
        same = {**back, "state_dict": 0} == {**content, "state_dict": 0}
        return same and equal(back["state_dict"], content["state_dict"])

    found = outcomes(path, attempt)
    record_property("measured", f"{found['refused']} refused, {found['right']} right, 0 wrong")
    assert found["wrong"] == 0


@pytest.mark.hard_use("500 flipped bits and truncations of a plane's checkpoint are found")
def test_damaged_plane_checkpoint(tmp_path, record_property):
    path = tmp_path / "plane.npz"
    values = PlaneValues(50, 1, np.float32, path, None, "some plane")
    values.put(np.arange(50), np.random.default_rng(0).normal(size=50), np.ones((1, 50)), "loop")
    values.write()

    def attempt():
        back = PlaneValues(50, 1, np.float32, path, None, "some plane")
        return np.array_equal(back.loss, values.loss) and np.array_equal(back.done, values.done)

    found = outcomes(path, attempt)
    record_property("measured", f"{found['refused']} refused, {found['right']} right, 0 wrong")
    assert found["wrong"] == 0


def test_one_changed_value_of_an_archive_is_found_but_not_of_other_formats(tmp_path):
    model = net()
    value = model[0].weight.detach().numpy().tobytes()
    for name, save in SAVED.items():
        path = tmp_path / name
        save(model.state_dict(), path)
        content = bytearray(path.read_bytes())
        content[content.index(value)] ^= 1
        path.write_bytes(content)
        if name == "zip.pt":
            with pytest.raises(ChecksumError, match=r"Bad CRC-32 for file 'zip/data/0'.*damaged"):
                models.load_weights(net(1), path)
        else:
            models.load_weights(net(1), path)


def test_an_archive_without_sums_needs_its_hash(tmp_path):
    path, model, other = tmp_path / "net.pt", net(), net(1)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(model.state_dict(), path)
    finally:
        torch.serialization.set_crc32_options(True)
    with pytest.raises(ChecksumError, match="CRC-32"):
        models.load_weights(other, path)
    models.load_weights(other, path, lla.files.sha256_of_file(path))
    assert equal(model.state_dict(), other.state_dict())


def test_the_second_of_two_members_with_one_name_is_checked_too(tmp_path):
    path = tmp_path / "net.pt"
    torch.save(net().state_dict(), path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("net/data/0", b"0" * 48)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"0" * 48, b"0" * 47 + b"1"))
    with pytest.raises(ChecksumError, match="CRC-32"):
        read(path)


def test_memory_that_runs_out_is_said_to(tmp_path, monkeypatch):
    path = tmp_path / "net.pt"
    torch.save(net().state_dict(), path)

    def load(*_, **__):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(InsufficientMemoryError, match=r"net\.pt holds tensors that do not fit"):
        read(path)


class _Storage:
    """Stands for a storage of one float in the pickle of a tensor."""


class _Tensor:
    def __init__(self, size):
        self.size = size

    def __reduce__(self):
        arguments = (_Storage(), 0, self.size, (0,) * len(self.size), False, {})
        return torch._utils._rebuild_tensor_v2, arguments


class _Pickler(pickle._Pickler):
    def persistent_id(self, value):
        if isinstance(value, _Storage):
            return "storage", torch.FloatStorage, "0", "cpu", 1
        return None


def write_huge(path, content):
    """An archive as of torch.save, in which `_Tensor`s of any size have one float in memory."""
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("net/data.pkl", "w") as file:
            _Pickler(file, 2).dump(content)
        for name, part in {"byteorder": b"little", "data/0": b"\0" * 4, "version": b"3\n"}.items():
            archive.writestr(f"net/{name}", part)


@pytest.mark.hard_use("A file of 1 kB that declares a tensor of 4 terabytes is refused")
def test_huge_declared_shapes(tmp_path):
    path, size = tmp_path / "net.pt", (10**6, 10**6)
    state = net().state_dict()
    write_huge(path, {name: _Tensor(size) for name in state})
    with pytest.raises(InputError, match=r"0\.weight \[1000000, 1000000\] for \[4, 3\]"):
        models.load_weights(net(), path)
    right = {name: _Tensor(tuple(tensor.shape)) for name, tensor in state.items()}
    for content, message in (
        ({name: _Tensor(size) for name in state}, "another architecture"),
        (right, "content sha256"),
    ):
        write_huge(path, {"state_dict": content, "sha256": "0"})
        with pytest.raises((InputError, ChecksumError), match=message):
            checkpoints.read_checkpoint(path, net())
    write_huge(path, {"state_dict": right, "optimizer": [_Tensor(size)], "sha256": "0"})
    with pytest.raises(InputError, match=r"1000000000000 numbers in /optimizer/0"):
        checkpoints.read_checkpoint(path, net())


def test_containers_without_end(tmp_path):
    endless = []
    endless.append(endless)
    path = tmp_path / "run.pt"
    torch.save({"state_dict": net().state_dict(), "more": endless, "sha256": "0"}, path)
    with pytest.raises(ChecksumError, match="without end"):
        checkpoints.read_checkpoint(path, net())
