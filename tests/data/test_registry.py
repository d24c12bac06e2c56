from dataclasses import replace

import pytest
import torch

from lla import data
from lla.data import DataSet, Download, File, Form, registry
from lla.errors import ChecksumError, InputError, MissingDataError


def test_every_issue_s_set_is_registered():
    wanted = {"mnist", "svhn", "svhn-gray", "cifar10", "cinic10", "cinic10-i"}
    assert wanted | {"digits", "rendered-digits", "rendered-digits-gray"} <= set(data.names())
    assert registry.get("svhn").splits == ("train", "test", "extra")
    assert registry.get("cinic10").splits == ("train", "valid", "test")
    assert registry.get("cinic10-i").splits == ("train", "test")


def test_unknown_names_and_splits():
    with pytest.raises(InputError, match="did you mean 'mnist'"):
        data.load("mnits")
    with pytest.raises(InputError, match="choose from mnist, svhn"):
        data.load("zzz")
    with pytest.raises(InputError, match="no split 'valid': choose from train, test"):
        data.load("mnist", "valid")


def test_missing_set_says_where_to_put_it(tmp_path, cache, monkeypatch):
    monkeypatch.setenv("LLA_DATA", str(tmp_path))
    with pytest.raises(MissingDataError) as caught:
        data.load("mnist", "test")
    for part in (
        "MNIST/raw/t10k-images-idx3-ubyte and MNIST/raw/t10k-labels-idx1-ubyte",
        "--data-root or LLA_DATA",
        "lla data fetch mnist",
        str(tmp_path),
        str(cache),
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("name", "split", "advice"),
    [
        ("cinic10", "valid", "put the folder valid into CINIC-10/ of a data root"),
        ("cinic10", "valid", "run `lla data fetch cinic10`"),
        ("svhn", "extra", r"call `lla.data.fetch\('svhn', splits=\['extra'\]\)`"),
    ],
)
def test_advice_for_less_common_splits(name, split, advice, no_data_root):
    with pytest.raises(MissingDataError, match=advice):
        data.load(name, split)


def test_a_data_root_that_is_no_folder(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="the data root is"):
        data.load("mnist", root=tmp_path / "nowhere")
    monkeypatch.setenv("LLA_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="LLA_DATA is"):
        data.load("mnist")
    assert data.load("digits").source == "bundled"  # needs no data root


def make(fidelity, value):
    def read(folder, files, split):
        text = (folder / files[0].path).read_text()
        images = torch.full((2, 1, 2, 2), value + len(text), dtype=torch.uint8)
        return images, torch.tensor([0, 1])

    return Form(fidelity, f"{fidelity}, {{split}}.", read, {"train": (File(f"{fidelity}.txt"),)})


@pytest.fixture
def made(monkeypatch):
    """A data set of two forms, the text files paper.txt and reduced.txt."""
    entry = DataSet("made", 2, (make("paper", 100), make("reduced", 0)))
    monkeypatch.setitem(registry.SETS, "made", entry)
    return entry


def test_the_most_faithful_form_wins_wherever_it_lies(tmp_path, cache, made, monkeypatch):
    root, other = tmp_path / "root", tmp_path / "other"
    root.mkdir()
    other.mkdir()
    cache.mkdir()
    monkeypatch.setenv("LLA_DATA", str(other))

    (other / "reduced.txt").write_text("")
    assert data.load("made").fidelity == "reduced"
    assert data.load("made").note == "reduced, train."
    (cache / "paper.txt").write_text("ccc")
    assert (data.load("made").fidelity, data.load("made").source) == ("paper", "cache")
    (other / "paper.txt").write_text("oo")
    assert data.load("made").source == "data root"
    assert data.load("made").images.max() == 102
    (root / "paper.txt").write_text("r")
    assert data.load("made", root=root).images.max() == 101  # the argument before LLA_DATA


def test_describe_names_form_place_and_advice(tmp_path, made, monkeypatch, no_data_root):
    def only():
        (entry,) = (entry for entry in data.describe(tmp_path) if entry.name == "made")
        return entry

    missing = only()
    assert (missing.available, missing.source, missing.folder) == (False, None, None)
    assert "put paper.txt into the top of a data root" in missing.note
    assert "fetch" not in missing.note

    downloads = {"train": (Download((), "md5:0", "paper.txt"),)}
    monkeypatch.setitem(registry.SETS, "made", replace(made, downloads=downloads))
    assert (only().source, only().fidelity) == ("download", "paper")
    assert "lla data fetch made" in only().note

    (tmp_path / "reduced.txt").write_text("")
    found = only()
    assert (found.available, found.source, found.fidelity) == (True, "data root", "reduced")
    assert found.folder == tmp_path
    assert {entry.name for entry in data.describe()} == set(data.names())


def test_bundled_sets_are_always_there(no_data_root):
    state = {(entry.name, entry.split): entry for entry in data.describe()}
    for name in ("digits", "rendered-digits", "rendered-digits-gray"):
        for split in ("train", "test"):
            assert state[name, split].available
            assert state[name, split].fidelity == "substitute"
    assert data.verify("digits") == ()


def test_verify_says_what_is_missing_beside_what_is_there(tmp_path, no_data_root):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    assert data.verify("mnist", tmp_path) == ()
    (folder / "train-images-idx3-ubyte").write_bytes(b"")
    checks = data.verify("mnist", tmp_path)
    assert [check.state for check in checks] == ["wrong", "missing", "missing", "missing"]
    assert all(str(check.path) in check.message for check in checks)
    with pytest.raises(MissingDataError):
        data.load("mnist", "train", tmp_path)  # half of it is not it


def test_register(made, monkeypatch):
    monkeypatch.setattr(registry, "SETS", dict(registry.SETS))
    with pytest.raises(InputError, match="already registered as 'made'"):
        data.register(made)
    entry = data.register(replace(made, name="new"))
    assert registry.get("new") is entry


def test_a_reader_that_gives_no_labelled_images(tmp_path, made, monkeypatch):
    (tmp_path / "paper.txt").write_text("")
    monkeypatch.setitem(registry.SETS, "made", replace(made, classes=1))
    with pytest.raises(ChecksumError, match="not a set of labelled images with 1 classes"):
        data.load("made", root=tmp_path)
