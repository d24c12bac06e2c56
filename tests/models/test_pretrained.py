"""Every way to trained weights, with files of the right shape in place of the published ones."""

import functools
import hashlib
import http.server
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lla import data, models
from lla._torchvision import import_torchvision
from lla.errors import ChecksumError, InputError, MissingDataError, NonFiniteError
from lla.models.pretrained import WEIGHTS, pretrained

OFFERED = [name for name, known in WEIGHTS.items() if known[0].publisher == "torchvision"]
VITS = ["vit_base_patch16_224", "vit_tiny_patch16_224"]


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def same(one, two):
    pairs = zip(one.state_dict().items(), two.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def save(model, path, half=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    state = model.state_dict()
    if half:
        state = {n: t.half() if t.is_floating_point() else t for n, t in state.items()}
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Empty caches of torchvision and of the hub, no packages with weights, and no data root."""
    from huggingface_hub import constants

    monkeypatch.delenv("LLA_DATA", raising=False)
    monkeypatch.setattr(sys.modules[pretrained.__module__], "_folders_of", lambda package: [])
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return SimpleNamespace(torch=tmp_path / "torch" / "checkpoints", hub=tmp_path / "hub")


@pytest.fixture
def root(tmp_path, caches):
    folder = tmp_path / "root"
    (folder / "weights").mkdir(parents=True)
    return folder


@pytest.fixture
def expect(monkeypatch):
    """Let the registry expect a file's own checksum: its first digits, as torchvision names it."""

    def change(name, path, form=0, digits=8):
        known = list(WEIGHTS[name])
        known[form] = replace(known[form], sha256=sha256(path)[:digits])
        monkeypatch.setitem(WEIGHTS, name, tuple(known))

    return change


def put(name, root, expect, form=0, **options):
    """Put a fake file in place of a known one; half precision, so that large ones are small."""
    weights = WEIGHTS[name][form]
    model = models.build(weights.architecture or name, weights.classes, seed=7, **weights.options)
    path = save(model, root / "weights" / weights.file, half=True)
    expect(name, path, form, **options)
    return path, model


@pytest.mark.parametrize("name", [name for name in WEIGHTS if name not in VITS])
def test_a_file_in_the_data_root(name, root, expect):
    path, saved = put(name, root, expect)
    found = models.find_pretrained(name, root)
    assert (found.available, found.path, found.source) == (True, path, "data root")
    result = pretrained(name, root=root)
    known = WEIGHTS[name][0]
    assert same(result.model, saved.half().float())
    assert not result.model.training
    assert next(result.model.parameters()).dtype == torch.float32
    assert result.sha256 == sha256(path)
    assert (result.file, result.fidelity, result.note) == (path.name, known.fidelity, known.note)
    assert (result.name, result.architecture) == (name, known.architecture or name)
    if known.classes == 1000:
        assert result.preprocessing == models.picture_preprocessing(result.architecture)
    else:
        assert result.preprocessing is None
    path.unlink()  # pytest keeps the folder, and some are large


@pytest.mark.parametrize(
    ("name", "suffix"), [*((name, ".safetensors") for name in VITS), (VITS[1], ".pth")]
)
def test_a_vit_in_the_data_root(name, suffix, root):
    saved = models.build(name, 1000, seed=7)
    file = WEIGHTS[name][0].file.replace(".safetensors", suffix)
    path = save(saved, root / "weights" / file, half=True)
    result = pretrained(name, root=root)
    assert same(result.model, saved.half().float())
    assert result.sha256 == sha256(path)
    path.unlink()


def test_the_most_faithful_file_is_taken_and_the_stand_in_else(root, caches, expect):
    name = "squeezenet1_1"
    rounded, _ = put(name, root, expect, form=1)
    assert pretrained(name, root=root).fidelity == "reduced"
    # in torchvision's own cache, which comes after the data root but before a stand-in
    original = save(models.build(name, 1000, seed=8), caches.torch / WEIGHTS[name][0].file)
    expect(name, original)
    result = pretrained(name, root=root)
    assert (result.fidelity, result.source, result.file) == ("paper", "cache", original.name)
    assert result.sha256 == sha256(original) != sha256(rounded)
    original.unlink()
    assert models.find_pretrained(name, root).file == rounded.name


def test_the_dequantised_mobilenet_brings_its_architecture_and_preprocessing(root, expect):
    put("mobilenet_v2", root, expect, form=1)
    result = pretrained("mobilenet_v2", root=root, num_classes=1000)
    assert (result.name, result.architecture) == ("mobilenet_v2", "mobilenetv2_100")
    assert result.fidelity == models.find_pretrained("mobilenet_v2", root).fidelity == "substitute"
    assert result.preprocessing.mean == result.preprocessing.std == (0.5, 0.5, 0.5)
    same_padding = models.build("mobilenetv2_100", pad_type="same").conv_stem
    assert type(result.model.conv_stem) is type(same_padding)


def in_hub(caches, name, seed=7):
    """Lay a file into the hub's cache as the hub does: a link to the content, by its sha256."""
    saved = models.build(name, 1000, seed=seed)
    folder = caches.hub / f"models--{WEIGHTS[name][0].repository.replace('/', '--')}"
    written = save(saved, folder / "blobs" / "new.safetensors")
    blob = written.rename(written.with_name(sha256(written)))
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(blob)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    return saved, blob


def test_the_hub_s_cache_is_found_and_checked_against_its_own_name(caches):
    name = "vit_tiny_patch16_224"
    assert not models.find_pretrained(name).available
    saved, blob = in_hub(caches, name)
    result = pretrained(name)
    assert same(result.model, saved)
    assert (result.source, result.sha256) == ("cache", blob.name)
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises(ChecksumError, match="altered"):
        pretrained(name)


def test_a_checksum_beside_a_file_is_used(root):
    name = "vit_tiny_patch16_224"
    path = save(models.build(name, 1000), root / "weights" / WEIGHTS[name][0].file)
    beside = path.with_name(f"{path.name}.sha256")
    beside.write_text(f"{sha256(path)}  {path.name}\n")
    pretrained(name, root=root)
    beside.write_text(f"{'0' * 64}  {path.name}\n")
    with pytest.raises(ChecksumError, match="sha256:0000"):
        pretrained(name, root=root)
    beside.write_text("none\n")
    with pytest.raises(ChecksumError, match="64 hexadecimal digits"):
        pretrained(name, root=root)


def test_another_size_interpolates_the_positions(root):
    name = "vit_tiny_patch16_224"
    saved = models.build(name, 1000, seed=7)
    save(saved, root / "weights" / WEIGHTS[name][0].file)
    small = pretrained(name, root=root, img_size=64)
    assert (small.preprocessing.resize, small.preprocessing.crop) == (71, 64)
    assert "64 pixels" in small.note
    assert small.model(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)
    own = small.model.state_dict()
    for key, tensor in saved.state_dict().items():
        if key != "pos_embed":
            assert torch.equal(own[key], tensor)
    # the class token's position is kept, the others keep their mean up to the border's weight
    assert torch.equal(own["pos_embed"][:, 0], saved.pos_embed[:, 0])
    assert own["pos_embed"].shape == (1, 17, 192)
    means = own["pos_embed"][:, 1:].mean(1), saved.pos_embed[:, 1:].mean(1)
    assert (means[0] - means[1]).abs().max() < 0.02
    with pytest.raises(InputError, match="one side in pixels"):
        pretrained(name, root=root, img_size=(64, 64))


def test_positions_of_another_size_are_those_that_timm_loads(root):
    import_torchvision()
    from timm.models.vision_transformer import checkpoint_filter_fn

    name = "vit_tiny_patch16_224"
    saved = models.build(name, 1000, seed=7)
    save(saved, root / "weights" / WEIGHTS[name][0].file)
    mine = pretrained(name, root=root, img_size=96).model
    theirs = models.build(name, 1000, img_size=96)
    theirs.load_state_dict(checkpoint_filter_fn(dict(saved.state_dict()), theirs))
    assert same(mine, theirs)


def test_lenet_says_how_its_images_are_padded(root, expect):
    put("lenet", root, expect)
    images = data.load("digits", "test")
    logits = []
    for options in ({}, {"padding": 2}):
        result = pretrained("lenet", root=root, **options)
        ((x, _),) = data.batches(images, 50, 1, **result.batch_options)
        logits.append(result.model(x))
    assert torch.allclose(*logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", OFFERED)
def test_file_names_and_digits_are_those_of_torchvision_s_addresses(name):
    url = import_torchvision().models.get_model_weights(name).IMAGENET1K_V1.url
    known = WEIGHTS[name][0]
    assert url.endswith(f"/{known.file}")
    assert known.file.endswith(f"-{known.sha256}.pth")
    assert len(known.sha256) == 8


@pytest.mark.parametrize("name", VITS)
def test_the_hub_s_repository_is_timm_s_default(name):
    import_torchvision()
    from timm.models import get_pretrained_cfg

    assert get_pretrained_cfg(name).hf_hub_id == WEIGHTS[name][0].repository


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def offered(tmp_path, caches, monkeypatch):
    """A server in place of torchvision's, with a file for squeezenet1_1."""
    served = tmp_path / "served"
    path = save(models.build("squeezenet1_1", 1000, seed=9), served / "squeeze.pth")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = functools.partial(Quiet, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/squeeze.pth"
        weights = SimpleNamespace(IMAGENET1K_V1=SimpleNamespace(url=url))
        library = import_torchvision().models
        monkeypatch.setattr(library, "get_model_weights", lambda name: weights)
        yield path
        server.shutdown()
        thread.join()


def test_download_into_torchvision_s_cache(root, caches, offered, expect):
    name = "squeezenet1_1"
    put(name, root, expect, form=1)
    expect(name, offered)
    result = pretrained(name, root=root, download=True)
    assert (result.source, result.fidelity) == ("download", "paper")
    assert result.sha256 == sha256(offered)
    assert same(result.model, models.build(name, 1000, seed=9).eval())
    assert (caches.torch / WEIGHTS[name][0].file).is_file()
    assert pretrained(name, root=root, download=True).source == "cache"


def test_a_download_of_another_file_leaves_nothing(caches, offered):
    with pytest.raises(ChecksumError, match="b8a52dc0"):
        pretrained("squeezenet1_1", download=True)
    assert not [path for path in caches.torch.iterdir() if path.name != ".lla.lock"]
    offered.unlink()
    with pytest.raises(
        MissingDataError, match=r"weights of 'squeezenet1_1'.*put squeezenet1_1-b8a"
    ):
        pretrained("squeezenet1_1", download=True)


def test_download_from_the_hub(caches, monkeypatch):
    import huggingface_hub

    name = "vit_tiny_patch16_224"
    asked = []

    def download(repository, file):
        asked.append((repository, file))
        _, blob = in_hub(caches, name)
        return str(next(blob.parents[1].glob("snapshots/*/model.safetensors")))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    result = pretrained(name, download=True)
    assert result.source == "download"
    assert asked == [("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", "model.safetensors")]

    def fail(repository, file):
        raise OSError("no connection")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(MissingDataError, match=r"no connection.*put vit_base_patch16_224"):
        pretrained("vit_base_patch16_224", download=True)


@pytest.mark.parametrize("name", WEIGHTS)
def test_nothing_found_says_what_to_put_where(name, root):
    found = models.find_pretrained(name, root)
    assert (found.available, found.path, found.fidelity) == (False, None, None)
    file = WEIGHTS[name][0].file
    assert f"put {file} into weights/ of a data root" in found.note
    with pytest.raises(MissingDataError, match=f"put {file} into weights/"):
        pretrained(name, root=root)


def test_no_data_root_is_said(caches):
    with pytest.raises(MissingDataError, match="no data root, as none is given"):
        pretrained("lenet")


def test_a_truncated_or_other_file_is_refused(root, expect):
    path, _ = put("squeezenet1_1", root, expect)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ChecksumError, match="truncated"):
        pretrained("squeezenet1_1", root=root)


def test_another_number_of_classes(root, expect):
    name = "vit_tiny_patch16_224"
    path = save(models.build(name, 10), root / "weights" / WEIGHTS[name][0].file)
    with pytest.raises(InputError, match=rf"{path.name}.* for 10 classes, not 1000"):
        pretrained(name, root=root)
    put("squeezenet1_1", root, expect)
    with pytest.raises(InputError, match=r"squeezenet1_1-b8a52dc0.pth has .*1000 classes, not 10:"):
        pretrained("squeezenet1_1", root=root, num_classes=10)


def test_bad_names_and_options(root, expect):
    with pytest.raises(InputError, match="no trained weights are known for 'mlp'"):
        pretrained("mlp", root=root)
    with pytest.raises(InputError, match="no trained weights are known for 'resnet19'"):
        models.find_pretrained("resnet19", root)
    with pytest.raises(InputError, match="data root"):
        models.find_pretrained("lenet", root / "nowhere")
    put("squeezenet1_1", root, expect)
    with pytest.raises(InputError, match="img_size is an option of vision transformers alone"):
        pretrained("squeezenet1_1", root=root, img_size=64)
    with pytest.raises(InputError, match="cannot be built"):
        pretrained("squeezenet1_1", root=root, no_such_option=1)


def test_random_state_is_left_alone(root, expect):
    put("squeezenet1_1", root, expect)
    before = torch.get_rng_state()
    pretrained("squeezenet1_1", root=root)
    assert torch.equal(torch.get_rng_state(), before)


# load_weights, as far as the registry needs more of it


def test_values_that_a_copy_would_change_are_refused(tmp_path):
    model = models.build("mlp", in_features=4, hidden=())
    path = tmp_path / "file.pth"
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.save({name: tensor.to(torch.int8) for name, tensor in before.items()}, path)
    with pytest.raises(InputError, match=r"torch.int8 for layers.0.weight.*dequantise"):
        models.load_weights(model, path)
    torch.save({name: tensor / 0 for name, tensor in before.items()}, path)
    with pytest.raises(NonFiniteError, match=r"file.pth has NaN or infinite values"):
        models.load_weights(model, path)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_the_first_digits_of_a_checksum_are_enough_but_not_fewer_than_eight(tmp_path):
    model = models.build("mlp")
    path = save(model, tmp_path / "file.pth")
    digits = sha256(path)
    for count in (8, 20, 64):
        assert models.load_weights(model, path, sha256=digits[:count]) == digits
    with pytest.raises(ChecksumError, match="is expected"):
        models.load_weights(model, path, sha256="0" * 8)
    with pytest.raises(InputError, match="8 digits"):
        models.load_weights(model, path, sha256=digits[:7])


# the real files


def real(name):
    if not os.environ.get("LLA_DATA"):
        pytest.skip("LLA_DATA names no data root")
    if not models.find_pretrained(name).available:
        pytest.skip(f"the data root has no weights of {name}")
    return pretrained(name)


def accuracy(trained, pairs):
    with torch.no_grad():
        right = [(trained.model(x).argmax(1) == y).float() for x, y in pairs]
    return torch.cat(right).mean().item()


def photographs(trained, count):
    try:
        pictures = data.load_pictures("imagenet")
    except MissingDataError as error:
        pytest.skip(str(error))
    return data.picture_batches(pictures, trained.preprocessing, 16, count, seed=0).pairs


@pytest.mark.parametrize(
    "name", [name for name in WEIGHTS if len(WEIGHTS[name][-1].sha256 or "") > 8]
)
def test_the_pinned_files_are_the_real_ones(name):
    trained = real(name)
    if trained.file == WEIGHTS[name][-1].file:
        assert trained.sha256 == WEIGHTS[name][-1].sha256


def test_squeezenet_on_real_pictures():
    trained = real("squeezenet1_1")
    # its readme: 65 % on 1000 such images; 4 standard errors of 96
    assert accuracy(trained, photographs(trained, 6)) == pytest.approx(0.65, abs=0.19)


def test_mobilenet_on_real_pictures():
    trained = real("mobilenet_v2")
    if trained.fidelity != "substitute":
        pytest.skip("the accuracy is known for the dequantised file")
    assert accuracy(trained, photographs(trained, 3)) == pytest.approx(0.89, abs=0.18)


@pytest.mark.parametrize(
    ("name", "image_set", "expected"), [("lenet", "mnist", 0.976), ("resnet20", "cifar10", 0.916)]
)
def test_small_networks_on_real_images(name, image_set, expected):
    trained = real(name)
    try:
        images = data.load(image_set, "test")
    except MissingDataError as error:
        pytest.skip(str(error))
    pairs = data.batches(images, 200, 2, seed=0, **trained.batch_options)
    assert accuracy(trained, pairs) == pytest.approx(expected, abs=0.06)


def test_registry_is_in_order_of_fidelity():
    rank = {"paper": 0, "reduced": 1, "substitute": 2}
    for known in WEIGHTS.values():
        ranks = [rank[weights.fidelity] for weights in known]
        assert ranks == sorted(ranks)
    assert models.pretrained_names() == tuple(WEIGHTS)
    assert set(WEIGHTS) <= set(models.names())
