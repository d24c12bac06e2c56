import hashlib
import math
import os
import pickle
import warnings
from pathlib import Path

import pytest
import torch

from lla import data, models
from lla.errors import ChecksumError, InputError, MissingDataError, NonFiniteError


def same(one, two):
    pairs = zip(one.state_dict().items(), two.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


@pytest.fixture
def saved(tmp_path):
    model = models.build("resnet20", seed=1)
    path = tmp_path / "weights.pt"
    torch.save(model.state_dict(), path)
    return model, path


@pytest.mark.parametrize("key", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_wrapping_loads(tmp_path, saved, key, prefix):
    model, _ = saved
    state = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    path = tmp_path / "wrapped.pt"
    torch.save(state if key is None else {key: state, "epoch": 3}, path)
    other = models.build("resnet20", seed=2)
    sha256 = models.load_weights(other, path)
    assert same(model, other)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert models.load_weights(other, path, sha256=sha256) == sha256


@pytest.mark.parametrize("kind", ["function", "mapping"])
def test_key_map(tmp_path, kind):
    model = models.build("mlp")
    path = tmp_path / "renamed.pt"
    renamed = {n.replace("layers.0", "first"): t for n, t in model.state_dict().items()}
    torch.save(renamed, path)
    key_map = {f"first.{what}": f"layers.0.{what}" for what in ("weight", "bias")}
    if kind == "function":
        other = models.build("mlp", seed=1)
        models.load_weights(other, path, key_map=lambda n: n.replace("first", "layers.0"))
    else:
        other = models.build("mlp", seed=1)
        models.load_weights(other, path, key_map=key_map)
    assert same(model, other)


def test_counters_may_be_missing(tmp_path, saved):
    model, path = saved
    state = {n: t for n, t in model.state_dict().items() if "num_batches" not in n}
    torch.save(state, path)
    other = models.build("resnet20")
    models.load_weights(other, path)
    assert same(model, other)


def test_another_architecture_is_refused_with_names_and_shapes(saved):
    _, path = saved
    model = models.build("lenet")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(InputError, match=r"lacks conv1.bias, conv2.weight, conv2.bias and 6 more"):
        models.load_weights(model, path)
    with pytest.raises(InputError, match=r"has besides bn1.weight"):
        models.load_weights(model, path)
    wider = models.build("resnet20", num_classes=100)
    with pytest.raises(InputError, match=r"linear.weight \[10, 64\] for \[100, 64\]"):
        models.load_weights(wider, path)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("keep", [0, 10, 1000, -1])
def test_truncated_file(saved, keep):
    _, path = saved
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(path.read_bytes()[:keep])
    for expected in (None, sha256):
        with pytest.raises(ChecksumError, match=r"weights.pt"):
            models.load_weights(models.build("resnet20"), path, sha256=expected)


def test_wrong_checksum(saved):
    _, path = saved
    with pytest.raises(ChecksumError, match="sha256:" + "0" * 64):
        models.load_weights(models.build("resnet20"), path, sha256="0" * 64)


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("evil-was-here",))


@pytest.mark.hard_use("Pickle payloads in weight files are refused, not run")
@pytest.mark.parametrize("write", ["torch", "pickle"])
def test_other_objects_are_never_unpickled(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pt"
    if write == "torch":
        torch.save({"state_dict": Evil()}, path)
    else:
        path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ChecksumError, match="other objects"):
        models.load_weights(models.build("mlp"), path)
    assert not Path("evil-was-here").exists()


def test_no_file_and_no_state_dict(tmp_path):
    with pytest.raises(MissingDataError, match=r"nowhere.pt"):
        models.load_weights(models.build("mlp"), tmp_path / "nowhere.pt")
    for content in ([1, 2], {}, {"epoch": 3}):
        torch.save(content, tmp_path / "other.pt")
        with pytest.raises(InputError, match="no state dict"):
            models.load_weights(models.build("mlp"), tmp_path / "other.pt")


def one_layer(**options):
    return torch.nn.Linear(2, 2, bias=False, **options)


def quantized():
    with warnings.catch_warnings():  # torch will leave quantized tensors out one day
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.eye(2), 0.1, 0, torch.qint8)


def nested():
    with warnings.catch_warnings():  # torch calls them a prototype
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([torch.zeros(2), torch.zeros(2)])


def no_number(place):
    tensor = torch.eye(2)
    tensor[0, 0] = place
    return tensor


NOT_USABLE = {
    "number as key": (lambda: {1: torch.eye(2)}, InputError, "no state dict"),
    "key and number": (lambda: {"weight": torch.eye(2), None: torch.eye(2)}, InputError, "named"),
    "no tensor": (lambda: {"weight": torch.eye(2), "epoch": 3}, InputError, "no state dict"),
    "nested dict": (lambda: {"weight": {"weight": torch.eye(2)}}, InputError, "no state dict"),
    "sparse": (lambda: {"weight": torch.eye(2).to_sparse()}, InputError, "a sparse tensor for w"),
    "csr": (lambda: {"weight": torch.eye(2).to_sparse_csr()}, InputError, "a sparse tensor"),
    "meta": (lambda: {"weight": torch.empty(2, 2, device="meta")}, InputError, "a meta tensor"),
    "nested": (lambda: {"weight": nested()}, InputError, "a nested tensor for weight"),
    "quantized": (lambda: {"weight": quantized()}, InputError, "a quantized tensor for weight"),
    "complex": (
        lambda: {"weight": torch.eye(2, dtype=torch.complex64)},
        InputError,
        "torch.complex64 for weight, where the model has torch.float32: save real numbers",
    ),
    "integers": (lambda: {"weight": torch.ones(2, 2).long()}, InputError, "dequantise it first"),
    "bool": (lambda: {"weight": torch.ones(2, 2).bool()}, InputError, "dequantise it first"),
    "nan": (lambda: {"weight": no_number(math.nan)}, NonFiniteError, "NaN or infinite .* weight"),
    "inf": (lambda: {"weight": no_number(math.inf)}, NonFiniteError, "NaN or infinite"),
    "beyond float32": (
        lambda: {"weight": no_number(1.0).double() * 1e300},
        NonFiniteError,
        "values in weight that are infinite in torch.float32: make the model torch.float64 first",
    ),
    "shape": (lambda: {"weight": torch.eye(3)}, InputError, r"\[3, 3\] for \[2, 2\]"),
    "no dimension": (lambda: {"weight": torch.tensor(1.0)}, InputError, r"\[\] for \[2, 2\]"),
}  # fmt: skip


@pytest.mark.hard_use(
    "Weight files with tensors of every odd kind, or with values that the model cannot hold, are "
    "refused in one sentence"
)
@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("what", NOT_USABLE)
def test_what_is_no_weight_is_refused(tmp_path, what):
    make, error, message = NOT_USABLE[what]
    path, model = tmp_path / "odd.pt", one_layer()
    before = model.weight.detach().clone()
    torch.save(make(), path)
    with pytest.raises(error, match=message) as caught:
        models.load_weights(model, path)
    assert "odd.pt" in str(caught.value)
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_lower_precision_is_converted_and_too_low_a_model_refused(tmp_path, dtype):
    path, model = tmp_path / "low.pt", one_layer()
    torch.save({"weight": torch.eye(2).to(dtype)}, path)
    models.load_weights(model, path)
    assert torch.equal(model.weight, torch.eye(2))
    if dtype is torch.float16:
        torch.save({"weight": torch.eye(2) * 1e5}, path)
        with pytest.raises(NonFiniteError, match=r"infinite in torch\.float16"):
            models.load_weights(one_layer(dtype=dtype), path)


def test_shared_and_expanded_storage_gives_the_values_that_it_says(tmp_path):
    path, model = tmp_path / "views.pt", torch.nn.Sequential(one_layer(), one_layer())
    square = torch.arange(8.0).reshape(4, 2)[::2]
    torch.save({"0.weight": square.T, "1.weight": torch.tensor([[3.0]]).expand(2, 2)}, path)
    models.load_weights(model, path)
    assert model[0].weight.tolist() == [[0, 4], [1, 5]]
    assert model[1].weight.tolist() == [[3, 3], [3, 3]]


@pytest.mark.parametrize(("value", "fits"), [(3.0, True), (1.5, False), (math.nan, False)])
def test_counters_keep_their_value_or_are_refused(tmp_path, value, fits):
    path, model = tmp_path / "counters.pt", torch.nn.BatchNorm1d(2)
    torch.save({**model.state_dict(), "num_batches_tracked": torch.tensor(value)}, path)
    if fits:
        models.load_weights(model, path)
        assert model.num_batches_tracked == value
    else:
        with pytest.raises(InputError, match=r"num_batches_tracked that torch\.int64 cannot hold"):
            models.load_weights(model, path)


def test_two_names_that_become_one_are_refused(tmp_path):
    path = tmp_path / "two.pt"
    torch.save({"a": torch.eye(2), "b": torch.zeros(2, 2)}, path)
    for key_map in (lambda name: "weight", {"a": "weight", "b": "weight"}, lambda name: 1):
        with pytest.raises(InputError, match="key_map gives"):
            models.load_weights(one_layer(), path, key_map=key_map)


def test_a_model_without_memory_is_refused(tmp_path):
    path = tmp_path / "net.pt"
    torch.save(one_layer().state_dict(), path)
    with pytest.raises(InputError, match="no memory for weight"):
        models.load_weights(one_layer(device="meta"), path)


def real(name):
    root = os.environ.get("LLA_DATA")
    if not root:
        pytest.skip("LLA_DATA names no data root")
    path = Path(root) / "weights" / name
    if not path.is_file():
        pytest.skip(f"the data root has no weights/{name}")
    return path


def correct(model, name, **options):
    """Count right answers on the test split; also give the number of images."""
    try:
        image_set = data.load(name, "test")
    except MissingDataError as error:
        pytest.skip(str(error))
    model.eval()
    with torch.no_grad():
        right = sum(
            (model(x).argmax(1) == y).sum().item()
            for x, y in data.batches(image_set, 500, **options)
        )
    return right, image_set


def test_example_lenet_scores_what_its_readme_says():
    model = models.build("lenet", padding=2)
    models.load_weights(model, real("lla_lenet_example.pth"))
    right, image_set = correct(model, "mnist")
    assert round(100 * right / len(image_set), 1) == 97.6

    unpadded = models.build("lenet")
    unpadded.load_state_dict(model.state_dict())
    assert correct(unpadded, "mnist", size=32)[0] == right


def test_public_resnet20_scores_what_its_readme_says():
    model = models.build("resnet20")
    path = real("resnet20-12fca82f.th")
    assert models.load_weights(model, path).startswith("12fca82f")
    right, image_set = correct(model, "cifar10", mean=data.IMAGENET_MEAN, std=data.IMAGENET_STD)
    if image_set.fidelity != "reduced":
        pytest.skip("the accuracy is known for the partial file")
    assert round(100 * right / len(image_set), 1) == 91.6
