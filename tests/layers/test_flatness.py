import copy
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lla
from lla.layers.flatness import flatness
from lla.layers.patches import is_covered


def close(found, expected, rtol=1e-10):
    found, expected = np.asarray(found), np.asarray(expected)
    atol = rtol * np.nanmax(np.abs(expected))
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def agrees(layer, true, rtol=1e-10):
    assert layer.exact
    close(layer.table, true.table, rtol)
    close(layer.trace.value, true.trace, rtol)
    close(layer.kappa.value, true.kappa, rtol)
    close(layer.kappa_diag.value, true.kappa_diag, rtol)
    assert (layer.trace_bias is None) == (true.trace_bias is None)
    if true.trace_bias is not None:
        close(layer.trace_bias.value, true.trace_bias, rtol)
        assert layer.trace_bias.stderr == 0
    assert (layer.trace.stderr, layer.kappa.stderr, layer.kappa_diag.stderr) == (0, 0, 0)


def layers_of(model):
    return [name for name, module in model.named_modules() if is_covered(module)]


ARCHITECTURES = (
    "plain", "batchnorm", "residual", "pooled", "strided", "depthwise", "1x1 classifier", "lenet",
)  # fmt: skip


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_layer_is_that_of_the_explicit_hessian(nets, name):
    assert set(ARCHITECTURES) == set(nets.ARCHITECTURES)
    model, batches = nets.make(nets.ARCHITECTURES[name]), nets.pictures()
    auto, blocks = flatness(model, batches), flatness(model, batches, method="jacobian")
    assert list(auto.names) == layers_of(model)
    last = max(i for i, m in enumerate(layers_of(model)) if "linear" not in m)
    assert auto.methods[last] == "closed form"
    for layer in auto.names:
        true = nets.explicit(model, batches, layer)
        agrees(auto[layer], true)
        agrees(blocks[layer], true)
        assert blocks[layer].method == "jacobian blocks"
        assert auto[layer].neuronwise == auto[layer].trace.value / auto[layer].size


@pytest.mark.parametrize("name", [a for a in ARCHITECTURES if a != "lenet"])
def test_the_last_convolution_before_the_average_has_a_closed_form(nets, name):
    model, batches = nets.make(nets.ARCHITECTURES[name]), nets.pictures()
    convolutions = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    found = flatness(model, batches, convolutions[-1], method="closed")
    agrees(found[convolutions[-1]], nets.explicit(model, batches, convolutions[-1]))
    assert found.methods == ("closed form",)
    if name != "depthwise":  # there the first convolution's channels stay apart, too
        message = "closed form does not cover 0: it is not the last layer"
        with pytest.raises(lla.InputError, match=message):
            flatness(model, batches, "0", method="closed")


class Tokens(nn.Module):
    """Linear layers on sequences [n, T, d]."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.top = nn.Linear(3, 4), nn.Linear(4, 4, bias=False), nn.Linear(4, 3)

    def forward(self, x):
        return self.top(torch.relu(self.b(torch.relu(self.a(x)))).mean(1))


KINDS = {
    "conv1d": (
        lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.Conv1d(3, 3, 2), nn.Flatten(2)),
        (2, 7),
    ),
    "conv3d": (
        lambda: nn.Sequential(nn.Conv3d(2, 3, 2), nn.ReLU(), nn.Conv3d(3, 3, 3, padding="same")),
        (2, 3, 4, 3),
    ),
    "groups": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), nn.Conv2d(6, 3, 2, groups=3)
        ),
        (4, 5, 5),
    ),
    "dilated": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, (3, 2), dilation=(1, 2), stride=(2, 1)),
            nn.ReLU(),
            nn.Conv2d(3, 3, 2, dilation=2),
        ),
        (2, 7, 7),
    ),
    "reflect": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=2, padding_mode="reflect"), nn.ReLU(), nn.Conv2d(3, 3, 2)
        ),
        (2, 4, 4),
    ),
    "circular": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=(1, 0), padding_mode="circular"),
            nn.ReLU(),
            nn.Conv2d(3, 3, 2),
        ),
        (2, 4, 4),
    ),
    "replicate": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 3, 3, padding=1, padding_mode="replicate"), nn.ReLU(), nn.Conv1d(3, 3, 2)
        ),
        (2, 5),
    ),
}


@pytest.mark.parametrize("kind", [*KINDS, "tokens"])
def test_other_kinds_of_layers(nets, kind):
    build, shape = KINDS.get(kind, (Tokens, (5, 3)))
    whole = build if kind == "tokens" else lambda: nn.Sequential(build(), nets.Mean())
    model, batches = nets.make(whole), nets.pictures(shape=shape)
    for method in ("auto", "jacobian"):
        for layer in (found := flatness(model, batches, method=method)):
            agrees(layer, nets.explicit(model, batches, layer.name))
    assert len(found) >= 2


def test_channels_last_and_views(nets):
    model = nets.make(nets.ARCHITECTURES["pooled"]).to(memory_format=torch.channels_last)
    batches = [(x.to(memory_format=torch.channels_last), y) for x, y in nets.pictures()]
    for layer in flatness(model, batches):
        agrees(layer, nets.explicit(model, batches, layer.name))


def test_float32_is_exact_but_for_rounding(nets):
    model, batches = nets.make(nets.ARCHITECTURES["batchnorm"]), nets.pictures()
    single = [(x.float(), y) for x, y in batches]
    found = flatness(copy.deepcopy(model).float(), single)
    for layer in found:
        agrees(layer, nets.explicit(model, batches, layer.name), 1e-4)
    wide = flatness(copy.deepcopy(model).float(), single, precision="float64")
    assert (found.dtype, wide.dtype) == ("float32", "float64")


@pytest.mark.parametrize("method", ["auto", "jacobian"])
def test_sure_predictions_keep_their_digits_in_float32(nets, method):
    model, batches = nets.make(nets.ARCHITECTURES["plain"]), nets.pictures((4,))
    with torch.no_grad():
        model[-1].weight.mul_(0.1)
        model[-1].bias.copy_(torch.tensor([60.0, 10.0, 0.0]))  # p = 1 - 2e-22
    batches = [(x, torch.zeros_like(y)) for x, y in batches]
    expected = flatness(model, batches, check=False)
    single = [(x.float(), y) for x, y in batches]
    found = flatness(copy.deepcopy(model).float(), single, method=method, check=False)
    for layer in found:
        assert layer.exact
        assert 0 < layer.trace.value < 1e-15
        close(layer.table, expected[layer.name].table, 1e-3)


def test_labels_and_their_smoothing_do_not_enter(nets):
    model, batches = nets.make(nets.ARCHITECTURES["pooled"]), nets.pictures()
    expected = flatness(model, batches)
    others = [(x, (y + 1) % 3) for x, y in batches]
    smooth = nn.CrossEntropyLoss(label_smoothing=0.3)
    for found in (flatness(model, others), flatness(model, batches, loss=smooth)):
        assert found.methods == expected.methods
        close(found.values, expected.values, 1e-12)
        assert found.loss != expected.loss


def test_examples_weigh_the_same_in_batches_of_any_size(nets):
    model, (batch,) = nets.make(nets.ARCHITECTURES["residual"]), nets.pictures((8,))
    parts = [(x, y) for x, y in zip(batch[0].split([5, 1, 2]), batch[1].split([5, 1, 2]))]  # noqa: B905
    close(flatness(model, parts).values, flatness(model, batch).values, 1e-12)
    weighted = flatness(model, parts[:2], weights=[1, 3])
    alone = [flatness(model, part).values for part in parts[:2]]
    close(weighted.values, (alone[0] + 3 * alone[1]) / 4, 1e-12)


def test_small_memory_gives_the_same_numbers(nets, monkeypatch):
    model, batches = nets.make(nets.ARCHITECTURES["lenet"]), nets.pictures()
    groups = nets.make(nets.ARCHITECTURES["depthwise"])
    expected = [flatness(m, batches).values for m in (model, groups)]
    monkeypatch.setattr("lla.layers.parts.available_memory", lambda device: 1)
    for m, e in zip((model, groups), expected, strict=True):
        close(flatness(m, batches).values, e, 1e-12)


def test_frozen_layers(nets):
    model, batches = nets.make(nets.ARCHITECTURES["plain"]), nets.pictures()
    model[0].weight.requires_grad_(False)
    model[2].bias.requires_grad_(False)
    model[5].requires_grad_(False)
    found = flatness(model, batches)
    assert found.names == ("2",)
    assert found["2"].trace_bias is None
    close(found["2"].kappa.value, nets.explicit(model, batches, "2").kappa)
    with pytest.raises(lla.InputError, match=r"0 .Conv2d. has no trainable weight"):
        flatness(model, batches, "0")


def test_one_example(nets):
    model, batches = nets.make(nets.ARCHITECTURES["lenet"]), nets.pictures((1,))
    for layer in flatness(model, batches):
        agrees(layer, nets.explicit(model, batches, layer.name))
    with pytest.raises(lla.InputError, match="the input of 6 has one value in each channel"):
        flatness(model, batches, normalize_inputs=True)


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def mlp(between, width=6):
    """Layer "0", something, layer "2"."""
    return lambda: nn.Sequential(nn.Linear(4, width), between(), nn.Linear(width, 3))


def vectors(nets, sizes=(6, 5)):
    return nets.pictures(sizes, (4,))


class Squeeze(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(6, 6)

    def forward(self, x):
        return torch.relu(x) * torch.sigmoid(self.gate(torch.relu(x)))


class Late(nn.Module):
    """Smooth where inputs are larger than any in the first batch."""

    def __init__(self, threshold):
        super().__init__()
        self.threshold = threshold

    def forward(self, x):
        return torch.where(x > self.threshold, torch.sin(x), torch.relu(x))


NOT_LINEAR = {
    "SiLU": nn.SiLU,
    "GELU": nn.GELU,
    "LayerNorm": lambda: nn.LayerNorm(6),
    "Hardswish": nn.Hardswish,
    "Softplus, beta 20": lambda: nn.Softplus(beta=20),
    "ReLU squared": lambda: Lambda(lambda x: F.relu(x) ** 2),
    "a tiny sine": lambda: Lambda(lambda x: F.relu(x) + 1e-3 * torch.sin(x)),
    "softmax gate": lambda: Lambda(lambda x: x * x.softmax(1)),
    "squeeze and excite": Squeeze,
    "maxout of products": lambda: Lambda(lambda x: torch.maximum(x * x.roll(1, 1), x)),
    "one example": lambda: Lambda(lambda x: torch.cat([torch.sin(x[:1]), F.relu(x[1:])])),
    "one unit": lambda: Lambda(lambda x: torch.cat([torch.sin(x[:, :1]), F.relu(x[:, 1:])], 1)),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", NOT_LINEAR)
def test_what_only_looks_piecewise_linear_is_sampled(nets, name, dtype):
    model = nets.make(mlp(NOT_LINEAR[name]), dtype)
    batches = [(x.to(dtype), y) for x, y in vectors(nets)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few products, large errors
        found = flatness(model, batches, ["0", "2"], max_matvecs=4)
    assert found.methods == ("hutchinson", "closed form"), found.whys
    assert "not piecewise linear" in found["0"].why
    assert not found["0"].exact
    assert found["0"].table is None
    with pytest.raises(
        lla.InputError, match=r"'jacobian' is not exact for 0 .batch 0.: the logits"
    ):
        flatness(model, batches, "0", method="jacobian")


@pytest.mark.parametrize("zero", ["weights", "sure and wrong"])
def test_smooth_layers_are_found_where_derivatives_are_small(nets, zero):
    model, batches = nets.make(mlp(nn.SiLU)), vectors(nets)
    with torch.no_grad():
        if zero == "weights":
            model[0].weight.zero_()
            model[0].bias.zero_()
        else:  # the probabilities leave no curvature, the labels are others
            model[2].bias.copy_(torch.tensor([50.0, 0.0, 0.0]))
            batches = [(x, torch.ones_like(y)) for x, y in batches]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert flatness(model, batches, "0", max_matvecs=4).methods == ("hutchinson",)


def test_a_tiny_smooth_term_under_sure_and_wrong_predictions(nets):
    # it is 1e-7 of the first derivative, and all of the Hessian
    model = nets.make(mlp(lambda: Lambda(lambda x: F.relu(x) + 1e-7 * x * x)), torch.float32)
    with torch.no_grad():
        model[2].bias.copy_(torch.tensor([40.0, 0.0, 0.0]))
    batches = [(x.float(), torch.ones_like(y)) for x, y in vectors(nets)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = flatness(model, batches, "0", max_matvecs=4, check=False)
    assert found.methods == ("hutchinson",)


def test_a_nonlinearity_in_a_later_batch_counts(nets):
    batches = vectors(nets)
    model = nets.make(mlp(lambda: Late(1e9)))
    assert flatness(model, batches)["0"].exact
    hidden = [model[0](x).detach() for x, _ in batches]
    model[1].threshold = float(hidden[0].max()) if hidden[0].max() < hidden[1].max() else None
    if model[1].threshold is None:
        batches, model[1].threshold = batches[::-1], float(hidden[1].max())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = flatness(model, batches, max_matvecs=4)
    assert found.methods == ("hutchinson", "closed form")
    with pytest.raises(lla.InputError, match=r"is not exact for 0 .batch 1."):
        flatness(model, batches, method="jacobian")


def test_saturated_gelu_is_right_either_way(nets):
    model, batches = nets.make(mlp(nn.GELU)), vectors(nets)
    with torch.no_grad():
        model[0].weight.mul_(1e-3)
        model[0].bias.copy_(torch.tensor([30.0, -30.0, 40.0, 35.0, -50.0, 30.0]))
        model[2].weight.mul_(0.01)
    agrees(flatness(model, batches, "0")["0"], nets.explicit(model, batches, "0"))


class Fake(torch.autograd.Function):
    """Backward is that of ReLU, forward is smooth."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return F.silu(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (x > 0)


def test_a_backward_that_is_not_that_of_its_forward_is_refused(nets):
    model = nets.make(mlp(lambda: Lambda(Fake.apply)))
    with pytest.raises(lla.InputError, match="wrong second derivative or none"):
        flatness(model, vectors(nets))


def test_a_layer_after_what_is_smooth_is_exact(nets):
    build = lambda: nn.Sequential(  # noqa: E731
        nn.Conv2d(2, 3, 3), nn.SiLU(), nn.Conv2d(3, 4, 2), nn.ReLU(), nets.Mean(), nn.Linear(4, 3)
    )
    model, batches = nets.make(build), nets.pictures()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = flatness(model, batches, max_matvecs=4)
    assert found.methods == ("hutchinson", "closed form", "closed form")
    agrees(found["2"], nets.explicit(model, batches, "2"))


class Mixing(nn.Module):
    """Each even example gets something of the odd one behind it."""

    def forward(self, x):
        return torch.cat([x[0::2] + x[1::2], x[1::2]])[[0, 3, 1, 4, 2, 5]]


class Reversed(nn.Module):
    def forward(self, x):
        return x.flip(0)


@pytest.mark.parametrize("between", [Mixing, Reversed, lambda: nn.BatchNorm1d(6)],
                         ids=["pairs", "reversed", "train-mode BatchNorm"])  # fmt: skip
def test_examples_that_affect_each_other_are_not_exact(nets, between):
    model, batches = nets.make(mlp(between)), vectors(nets, (6,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = flatness(model, batches, "0", max_matvecs=4, mode="train")
    assert found.methods == ("hutchinson",)
    assert "affect each other" in found["0"].why or "not piecewise linear" in found["0"].why


class Standardized(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        scaled = weight / weight.std(dim=(1, 2, 3), keepdim=True)
        return super()._conv_forward(x, scaled, bias)


class Regularized(nn.Module):
    """The weight of a layer enters the logits a second time, with no first derivative."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)
        self.a.weight.data.zero_()

    def forward(self, x):
        extra = self.a.weight.square().sum()
        return self.b(F.relu(self.a(x))) + extra * torch.arange(3.0).to(x)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.c(F.relu(self.b(F.relu(self.a(x)))))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.c(F.relu(self.a(F.relu(self.a(x)))))


@pytest.mark.parametrize(
    ("build", "shape", "layer", "why"),
    [
        (Regularized, (4,), "a", "not piecewise linear"),
        (Tied, (4,), "b", "used elsewhere"),
        (Twice, (4,), "a", "called 2 times"),
        (lambda: nn.Sequential(Standardized(2, 3, 2), Lambda(lambda x: x.mean((2, 3)))),
         (2, 3, 3), "0", "changed before it is used"),
        (lambda: nn.Sequential(nn.Embedding(9, 4), Lambda(lambda x: x.mean(1)), nn.Linear(4, 3)),
         None, "0", "no linear or convolution layer"),
        (lambda: nn.Sequential(Lambda(lambda x: x.reshape(-1, 2)), nn.Linear(2, 4), nn.ReLU(),
                               Lambda(lambda x: x.reshape(-1, 8)), nn.Linear(8, 3)),
         (4,), "1", "12 rows for 6 examples"),
    ],
    ids=["regularized", "tied", "twice", "standardized", "embedding", "folded"],
)  # fmt: skip
def test_weights_that_are_used_otherwise_are_sampled(nets, build, shape, layer, why):
    model = nets.make(build)
    batches = nets.pictures((6,), shape or ())
    if shape is None:
        batches = [(torch.randint(9, (6, 3)), y) for _, y in batches]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = flatness(model, batches, layer, max_matvecs=4)
    assert found.methods == ("hutchinson",)
    assert why in found[layer].why


def test_a_weight_from_a_parametrization_is_no_parameter(nets):
    model, batches = nets.make(nets.ARCHITECTURES["plain"]), nets.pictures()
    nn.utils.parametrizations.weight_norm(model[0])
    found = flatness(model, batches)
    assert found.names == ("2", "5")
    agrees(found["2"], nets.explicit(model, batches, "2"))
    with pytest.raises(lla.InputError, match=r"0 .* has no trainable weight"):
        flatness(model, batches, "0")


def focal(z, y):
    logp = F.log_softmax(z, 1).gather(1, y[:, None])[:, 0]
    return (-((1 - logp.exp()) ** 2) * logp).mean()


class OwnLoss(nn.Module):
    """Like a transformer: its output has a loss that is not the cross-entropy of its logits."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 3)

    def forward(self, x, labels):
        logits = self.a(x)
        return {"loss": F.cross_entropy(2 * logits, labels), "logits": logits}


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0])), "no mean cross-entropy"),
        (nn.CrossEntropyLoss(reduction="sum"), "no mean cross-entropy"),
        (lambda z, y: F.cross_entropy(2 * z, y), "no mean cross-entropy"),
        (focal, "no mean cross-entropy"),
        (lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]), "of the model"),
    ],
    ids=["class weights", "sum", "colder", "focal", "of the model"],
)
def test_other_losses_are_sampled_and_refused_by_name(nets, loss, why):
    model = nets.make(mlp(nn.ReLU), torch.float32)
    with torch.no_grad():  # sure predictions hide what loss it is
        model[2].bias.copy_(torch.tensor([12.0, 0.0, 0.0]))
    batches = [(x.float(), torch.arange(len(y)) // (len(y) - 1)) for x, y in vectors(nets)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = flatness(model, batches, "2", loss=loss, max_matvecs=4, check=False)
    assert found.methods == ("hutchinson",)
    assert why in found["2"].why
    with pytest.raises(lla.InputError, match=f"'closed' is not exact for 2 .batch 0.: .*{why}"):
        flatness(model, batches, "2", loss=loss, method="closed", check=False)


def test_a_model_with_its_own_loss_is_sampled(nets):
    model = nets.make(OwnLoss)
    batches = [{"x": x, "labels": y} for x, y in vectors(nets)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "own loss" in flatness(model, batches, max_matvecs=4)["a"].why
    assert flatness(model, batches, loss=F.cross_entropy).methods == ("closed form",)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layers": "5"}, "the network has no layer '5': take 0"),
        ({"layers": "features"}, "has no layer 'features'"),
        ({"layers": ""}, "the network is no single layer but has 2: name some of 0, 2"),
        ({"layers": []}, "there is no layer"),
        ({"layers": [0]}, "a layer is int: give names"),
        ({"layers": "1"}, "1 .ReLU. has no trainable weight"),
        ({"method": "exact"}, "choose among auto, closed, jacobian, hutchinson"),
        ({"rtol": 0}, "rtol is 0: it must be positive"),
        ({"max_matvecs": 1}, "takes two products"),
        ({"mode": "test"}, "choose 'eval' or 'train'"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_in_one_sentence(nets, given, message):
    with pytest.raises(lla.InputError, match=message) as raised:
        flatness(nets.make(mlp(nn.ReLU)), vectors(nets), **given)
    assert "\n" not in str(raised.value)


def test_labels_outside_the_classes_are_refused(nets):
    batches = [(x, y + 3) for x, y in vectors(nets)]
    with pytest.raises(lla.InputError, match=r"classes|targets") as raised:
        flatness(nets.make(mlp(nn.ReLU)), batches)
    assert "\n" not in str(raised.value)


def test_nothing_of_the_model_changes(nets):
    model = nets.make(nets.ARCHITECTURES["batchnorm"]).train()
    before, batches = copy.deepcopy(model.state_dict()), nets.pictures()
    state = torch.get_rng_state()
    flatness(model, batches)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert all(m.training and not m._forward_hooks for m in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
