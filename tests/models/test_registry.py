import pytest
import torch
from torch import nn

from lla import data, models
from lla.errors import InputError
from lla.models import registry


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("lenet", (2, 1, 32, 32), 61706),
        ("resnet20", (2, 3, 32, 32), 269722),
        ("mlp", (2, 1, 28, 28), 784 * 64 + 64 + 64 * 10 + 10),
    ],
)
def test_every_model_maps_images_to_logits(name, shape, parameters):
    model = models.build(name)
    assert flat(model).numel() == parameters
    logits = model(torch.rand(shape))
    assert logits.shape == (2, 10)
    assert models.build(name, num_classes=7)(torch.rand(shape)).shape == (2, 7)
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("init", ["torch", "uniform"])
def test_build_depends_on_the_seed_alone(init):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one = flat(models.build("lenet", seed=1, init=init))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert torch.equal(one, flat(models.build("lenet", seed=1, init=init)))
    assert not torch.equal(one, flat(models.build("lenet", seed=2, init=init)))


def test_uniform_fills_every_layer_to_its_bound():
    model = models.build("resnet20", init="uniform")
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = module.weight[0].numel() ** -0.5
            assert module.weight.abs().max() <= bound
            assert module.weight.abs().max() > 0.95 * bound
            # a uniform law has the variance bound^2 / 3; 432 weights at least
            assert abs(module.weight.var() / (bound**2 / 3) - 1) < 0.2
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()
    assert model.linear.bias.abs().max() <= 64**-0.5
    assert model.linear.bias.unique().numel() == 10


def test_torch_is_torch_s_default_and_obeys_the_same_bound():
    model = models.build("lenet")
    for module in (model.conv1, model.conv2, model.fc1, model.fc2, model.fc3):
        bound = module.weight[0].numel() ** -0.5
        assert module.weight.abs().max() <= bound * (1 + 1e-6)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        assert torch.equal(flat(models.LeNet()), flat(model))


def test_uniform_replaces_another_initialisation(monkeypatch):
    class Zeros(nn.Linear):
        def __init__(self, num_classes):
            super().__init__(4, num_classes)
            nn.init.zeros_(self.weight)

    monkeypatch.setattr(registry, "MODELS", dict(registry.MODELS))
    models.register("zeros", Zeros)
    assert not models.build("zeros").weight.any()
    assert models.build("zeros", init="uniform").weight.all()
    with pytest.raises(InputError, match="already registered as 'zeros'"):
        models.register("zeros", Zeros)


def test_lenet_on_padded_32_is_lenet_with_padding_on_28():
    small, large = models.build("lenet", padding=2), models.build("lenet", padding=0)
    assert torch.equal(flat(small), flat(large))
    small, large = small.double(), large.double()
    x = torch.rand(3, 1, 28, 28, dtype=torch.float64)
    padded = nn.functional.pad(x, (2, 2, 2, 2))
    assert torch.allclose(small(x), large(padded), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "data_set"), [("lenet", "digits"), ("mlp", "digits"), ("resnet20", "rendered-digits")]
)
def test_preprocessing_makes_the_input_of_the_model(name, data_set, monkeypatch):
    monkeypatch.setitem(data.digits._RENDERED, "test", (1, 5))
    image_set = data.load(data_set, "test")
    ((x, _),) = data.batches(image_set, 5, 1, **models.preprocessing(name))
    assert models.build(name)(x).shape == (5, 10)


def test_mlp_options():
    linear = models.build("mlp", num_classes=3, in_features=5, hidden=())
    x = torch.rand(2, 5)
    assert torch.equal(linear(x), linear.layers[0](x))
    assert len(models.build("mlp", hidden=(4, 4)).layers) == 3


def test_bad_names_and_options():
    with pytest.raises(InputError, match="did you mean 'lenet'"):
        models.build("lenett")
    with pytest.raises(InputError, match="choose from lenet"):
        models.build("zzz")
    with pytest.raises(InputError, match="paddding"):
        models.build("lenet", paddding=2)
    with pytest.raises(InputError, match="no initialisation 'normal'"):
        models.build("lenet", init="normal")
    assert {"lenet", "resnet20", "mlp"} <= set(models.names())
