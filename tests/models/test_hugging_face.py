"""Networks of transformers: built from a folder, and measured like explicit Hessians."""

import json
import sys
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from typer.testing import CliRunner

import lla
from lla import _torchvision, models
from lla.cli import app

_torchvision.import_torchvision()  # transformers imports it
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

SMALL = {
    "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2
}  # fmt: skip
IDS = torch.randint(0, 7, (5, 6), generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 1, 0])


def gpt2():
    config = transformers.GPT2Config(
        vocab_size=7, n_positions=6, n_embd=4, n_inner=4, n_layer=1, n_head=2, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def bert():
    config = transformers.BertConfig(vocab_size=7, max_position_embeddings=6, num_labels=3, **SMALL)
    return transformers.BertForSequenceClassification(config)


def vit():
    config = transformers.ViTConfig(image_size=4, patch_size=2, num_labels=3, **SMALL)
    return transformers.ViTForImageClassification(config)


def sentences():
    """Sentences of two lengths, the shorter ones padded, and no loss at the padding."""
    mask = torch.ones_like(IDS)
    mask[3:, 4:] = 0
    return {
        "input_ids": IDS,
        "attention_mask": mask,
        "labels": IDS.masked_fill(mask == 0, -100),
    }


def pictures():
    drawn = torch.Generator().manual_seed(2)
    return {"pixel_values": torch.randn(5, 3, 4, 4, generator=drawn).double(), "labels": LABELS}


CASES = {
    "gpt2": (gpt2, sentences),
    "bert": (bert, lambda: {**sentences(), "labels": LABELS}),
    "vit": (vit, pictures),
}


@pytest.fixture(params=CASES, scope="module")
def measured(request, cases):
    """A network in float64, a batch, and the explicit Hessian of the network's own loss."""
    make, batch = CASES[request.param]
    torch.manual_seed(4)
    model, batch = make().double().eval(), batch()
    for parameter in model.parameters():
        # nowhere trivial: the biases of a new network are zero
        parameter.data += 0.2 * torch.randn_like(parameter)
    with sdpa_kernel(SDPBackend.MATH):
        exact = cases.own_hessian(model, lambda: model(**batch).loss)
    # transformers computes the loss of a language model in float32
    accuracy = 1e-6 if request.param == "gpt2" else 1e-10
    return model, transformers.BatchEncoding(batch), exact, accuracy


def test_products_and_the_trace_are_those_of_the_explicit_hessian(measured):
    model, batch, exact, accuracy = measured
    H = lla.HessianOperator(lla.Problem(model, batch))
    v = torch.randn(H.shape[0], 2, dtype=torch.float64)
    for _ in range(3):  # a route may be wrong from its second call on
        assert (H @ v - exact @ v).norm() < accuracy * exact.norm() * v.norm()
    trace = lla.trace(H, max_matvecs=H.shape[0])
    assert trace.value == pytest.approx(exact.trace().item(), abs=accuracy * exact.norm().item())


def test_eigenvalues_and_criteria_are_those_of_the_explicit_hessian(measured):
    model, batch, exact, _ = measured
    values = torch.linalg.eigvalsh((exact + exact.T) / 2)
    assert values[0] < -0.01 * values[-1]
    pairs = lla.top_eigenpairs(lla.HessianOperator(lla.Problem(model, batch)), k=3, which="LA")
    error = (torch.as_tensor(pairs.values) - values.flip(0)[:3]).abs().max()
    assert error < 1e-5 * values[-1]
    crit = lla.criteria(model, batch, probes=2, steps=60)
    assert crit.re.value == pytest.approx((-values[0] / values[-1]).item(), rel=1e-5)


@pytest.mark.parametrize("kind", CASES)
def test_the_loss_over_batches_is_that_of_all_examples(kind):
    """The mean over tokens, of which batches hold different numbers, or over examples."""
    make, batch = CASES[kind]
    model, batch = make().double().eval(), batch()
    parts = [{n: t[rows] for n, t in batch.items()} for rows in (slice(0, 2), slice(2, 5))]
    weights = [2 * 5, 5 + 2 * 3] if kind == "gpt2" else [2, 3]  # tokens to predict
    found = lla.Problem(model, parts, weights=weights).loss()
    with torch.no_grad():
        assert found.item() == pytest.approx(model(**batch).loss.item(), rel=1e-6)
    if kind != "gpt2":
        assert lla.Problem(model, parts).loss().item() == pytest.approx(found.item(), rel=1e-12)


def test_a_loss_of_ones_own_takes_the_logits():
    model, batch = bert().double().eval(), CASES["bert"][1]()
    smooth = lla.Problem(model, batch, lambda z, y: F.cross_entropy(z, y, label_smoothing=0.2))
    with torch.no_grad():
        expected = F.cross_entropy(model(**batch).logits, LABELS, label_smoothing=0.2)
    assert smooth.loss().item() == pytest.approx(expected.item(), rel=1e-12)


# networks by name


@contextmanager
def changed(folder):
    """The configuration in a folder, to be changed."""
    path = folder / "config.json"
    content = json.loads(path.read_text())
    yield content
    path.write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path):
    """A folder with a small BERT; its weights are from seed 4."""
    torch.manual_seed(4)
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    bert().save_pretrained(tmp_path)
    if shown:
        transformers.utils.logging.enable_progress_bar()
    return tmp_path


def values(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def test_random_weights_are_those_of_the_seed(folder):
    state = torch.get_rng_state()
    one, text = models.transformer(str(folder), 5)
    assert torch.equal(torch.get_rng_state(), state)
    assert text is None
    assert type(one) is transformers.BertForSequenceClassification
    assert not one.training
    assert torch.equal(values(one), values(models.transformer(str(folder), 5)[0]))
    assert not torch.equal(values(one), values(models.transformer(str(folder), 6)[0]))


def test_weights_are_loaded_and_named(folder, capfd):
    torch.manual_seed(4)
    expected = bert()
    model, text = models.transformer(str(folder), pretrained=True)
    assert torch.equal(values(model), values(expected))
    assert text.startswith(f"weights of {folder} (values sha256 ")
    assert models.transformer(str(folder), pretrained=True)[1] == text
    model.classifier.bias.data += 1
    model.save_pretrained(folder, safe_serialization=True)
    assert models.transformer(str(folder), pretrained=True)[1] != text
    assert "Loading weights" not in capfd.readouterr().err
    assert transformers.utils.logging.is_progress_bar_enabled()


def test_weights_that_are_not_there_are_said_to_be_random(folder):
    with changed(folder) as config:
        config["architectures"] = ["BertForTokenClassification"]
    bare = transformers.BertModel(bert().config)
    bare.save_pretrained(folder)
    with changed(folder) as config:
        config["architectures"] = ["BertForTokenClassification"]
    one, text = models.transformer(str(folder), 5, pretrained=True)
    assert text.endswith(", but random (seed 5): classifier.bias, classifier.weight")
    other, _ = models.transformer(str(folder), 5, pretrained=True)
    assert torch.equal(values(one), values(other))


@pytest.mark.parametrize("pretrained", [False, True])
@pytest.mark.parametrize("auto", [False, True])
def test_half_precision_becomes_float32(tmp_path, pretrained, auto):
    bert().bfloat16().save_pretrained(tmp_path)
    with changed(tmp_path) as config:
        assert config["dtype"] == "bfloat16"
        if auto:
            del config["architectures"]
    model, _ = models.transformer(str(tmp_path), pretrained=pretrained)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert isinstance(model, transformers.BertModel) == auto


def test_float64_stays(tmp_path):
    bert().double().save_pretrained(tmp_path)
    model, _ = models.transformer(str(tmp_path), pretrained=True)
    assert {p.dtype for p in model.parameters()} == {torch.float64}


def test_what_is_not_there(folder):
    with pytest.raises(lla.MissingDataError, match="there is no configuration 'nowhere'"):
        models.transformer("nowhere")
    (folder / "model.safetensors").unlink()
    with pytest.raises(lla.MissingDataError, match="there are no weights of"):
        models.transformer(str(folder), pretrained=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["NoSuchModel"]}, "transformers has no network NoSuchModel"),
        ({"architectures": ["Trainer"]}, "transformers has no network Trainer"),
        ({"architectures": ["BertConfig"]}, "transformers has no network BertConfig"),
        ({"model_type": "none"}, "check its config.json"),
        ({"num_attention_heads": 3}, "check its configuration|check its config.json"),
        ({"auto_map": {"AutoConfig": "x.Y"}, "model_type": "z"}, "check its config.json"),
    ],
)
def test_a_configuration_that_cannot_be_used(folder, change, message):
    with changed(folder) as config:
        config |= change
    with pytest.raises(lla.InputError, match=message) as error:
        models.transformer(str(folder))
    assert "\n" not in str(error.value)


def test_weights_of_another_size(folder):
    with changed(folder) as config:
        config["hidden_size"] = 12
    with pytest.raises(lla.InputError, match="check its weights"):
        models.transformer(str(folder), pretrained=True)


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    """A module with batches, seen from the working directory."""
    (tmp_path / "sentences_of_mine.py").write_text(
        "import torch\n"
        "def make():\n"
        "    ids = torch.arange(30).reshape(5, 6) % 7\n"
        "    batch = {'input_ids': ids, 'attention_mask': torch.ones_like(ids)}\n"
        "    return [{**batch, 'labels': torch.tensor([0, 1, 2, 1, 0])}]\n"
    )
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("sentences_of_mine", None)


@pytest.mark.parametrize("weights", [(), ("--weights", "pretrained")])
def test_criteria_on_the_command_line(folder, own_data, weights):
    command = [
        "criteria", f"hf:{folder}", "--data", "sentences_of_mine:make", "--probes", "2", "--steps",
        "6", "--json", *weights,
    ]  # fmt: skip
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    torch.manual_seed(4)
    model = bert() if weights else models.transformer(str(folder), 0)[0]
    ids = torch.arange(30).reshape(5, 6) % 7
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": LABELS}
    expected = lla.criteria(model, [batch], probes=2, steps=6)
    assert found["re"]["value"] == pytest.approx(expected.re.value, rel=1e-3)
    assert found["kh1"]["value"] == pytest.approx(expected.kh1.value, rel=1e-3)
    said = "values sha256" if weights else "random weights (seed 0)"
    assert said in json.dumps(found)
