"""The networks of torchvision and timm, and what photographs go through before them."""

import subprocess
import sys
from functools import cache

import pytest
import torch
from torch import nn

from lla import models
from lla._torchvision import import_torchvision
from lla.errors import InputError
from lla.models.zoo import ZOO

# name -> parameters with 1000 classes, as the libraries publish them
TORCHVISION = {
    "resnet18": 11689512,
    "resnet50": 25557032,
    "alexnet": 61100840,
    "squeezenet1_1": 1235496,
    "mobilenet_v2": 3504872,
}
TIMM = {
    "vit_base_patch16_224": 86567656,
    "vit_tiny_patch16_224": 5717416,
    "mobilenetv2_100": 3504872,
    "efficientnet_lite0": 4652008,
    "efficientnet_lite1": 5416680,
    "efficientnet_lite2": 6092072,
}
SMALL = ("squeezenet1_1", "mobilenet_v2", "vit_tiny_patch16_224", "mobilenetv2_100")


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@cache
def usual(name):
    """The model with the usual number of classes: some take a second to build."""
    return models.build(name, num_classes=1000)


@pytest.fixture(autouse=True, scope="module")
def forget():
    """Free the cached models after the last test of this file."""
    yield
    usual.cache_clear()


def at_64(name, **options):
    return models.build(name, img_size=64, **options) if "vit" in name else models.build(name)


def test_every_network_is_registered():
    assert set(ZOO) == set(TORCHVISION) | set(TIMM) <= set(models.names())


@pytest.mark.parametrize(("name", "count"), [*TORCHVISION.items(), *TIMM.items()])
def test_parameters_are_as_many_as_published(name, count):
    assert flat(usual(name)).numel() == count
    assert all(p.dtype == torch.float32 for p in usual(name).parameters())


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v2"])
def test_weights_are_those_of_torchvision_under_the_seed(name):
    constructor = getattr(import_torchvision().models, name)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        assert torch.equal(flat(constructor(weights=None)), flat(usual(name)))


# the small vision transformer is the class of the large one, in a fraction of the time
@pytest.mark.parametrize("name", [name for name in ZOO if name != "vit_base_patch16_224"])
def test_64_pixels_give_logits_and_gradients(name):
    model = at_64(name)
    logits = model.eval()(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (2, 10)
    assert bool(logits.isfinite().all())
    logits.logsumexp(1).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("init", ["torch", "uniform"])
def test_build_depends_on_the_seed_alone(name, init):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one = flat(models.build(name, seed=1, init=init))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert torch.equal(one, flat(models.build(name, seed=1, init=init)))
    assert not torch.equal(one, flat(models.build(name, seed=2, init=init)))


@pytest.mark.parametrize("name", ["resnet18", *SMALL])
def test_uniform_fills_every_layer_to_its_bound(name):
    model = models.build(name, init="uniform")
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = module.weight[0].numel() ** -0.5
            assert 0.95 * bound < module.weight.abs().max() <= bound
            if module.bias is not None:
                assert 0 < module.bias.abs().max() <= bound
        elif isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()


def test_uniform_counts_the_width_of_a_token_as_its_fan_in():
    model = models.build("vit_tiny_patch16_224", init="uniform")
    bound = 192**-0.5
    for tensor in (model.cls_token, model.pos_embed):
        assert 0.95 * bound < tensor.abs().max() <= bound
    assert abs(model.pos_embed.var() / (bound**2 / 3) - 1) < 0.05


def test_options_reach_the_constructor():
    assert models.build("vit_tiny_patch16_224", img_size=64).pos_embed.shape == (1, 17, 192)
    same = models.build("mobilenetv2_100", pad_type="same")
    # TensorFlow's padding is computed from the input, not a fixed border
    assert type(same.conv_stem) is not type(models.build("mobilenetv2_100").conv_stem)
    assert models.build("alexnet", dropout=0.25).classifier[0].p == 0.25


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_bad_options(name):
    with pytest.raises(InputError, match="cannot be built"):
        models.build(name, no_such_option=1)
    for option in ("weights", "pretrained"):  # must not download behind the caller's back
        with pytest.raises(InputError, match=r"lla\.models\.pretrained"):
            models.build(name, **{option: True})


def test_neither_library_is_loaded_before_a_model_is_built():
    code = (
        "import sys, lla, lla.models, lla.data\n"
        "lla.models.names(), lla.models.find_pretrained('resnet18')\n"
        "lla.models.picture_preprocessing('resnet18'), lla.data.load_pictures('sample-crops')\n"
        "lla.data.wnids()\n"
        "print([name for name in ('torchvision', 'timm', 'sklearn') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.parametrize("name", TORCHVISION)
def test_preprocessing_is_that_of_torchvision_s_weights(name):
    theirs = import_torchvision().models.get_model_weights(name).IMAGENET1K_V1.transforms()
    mine = models.picture_preprocessing(name)
    assert ([mine.resize], [mine.crop]) == (theirs.resize_size, theirs.crop_size)
    assert (list(mine.mean), list(mine.std)) == (theirs.mean, theirs.std)
    assert mine.interpolation == theirs.interpolation.value
    assert theirs.antialias


@pytest.mark.parametrize("name", ["vit_base_patch16_224", "vit_tiny_patch16_224"])
def test_preprocessing_is_that_of_timm_s_weights(name):
    import_torchvision()
    from timm.models import get_pretrained_cfg

    theirs = get_pretrained_cfg(name)
    mine = models.picture_preprocessing(name)
    assert (3, mine.crop, mine.crop) == theirs.input_size
    assert mine.resize == int(mine.crop / theirs.crop_pct)
    assert (mine.mean, mine.std, mine.interpolation) == (
        theirs.mean,
        theirs.std,
        theirs.interpolation,
    )


def test_sides_of_other_sizes_are_in_proportion():
    assert models.picture_preprocessing("resnet18", 128).resize == 146
    assert models.picture_preprocessing("resnet18", 224).resize == 256
    vit = [models.picture_preprocessing("vit_base_patch16_224", s) for s in (64, 128, 224)]
    assert [(p.resize, p.crop) for p in vit] == [(71, 64), (142, 128), (248, 224)]


def test_models_for_small_images_have_no_preprocessing_of_photographs():
    with pytest.raises(InputError, match="of photographs for 'lenet'"):
        models.picture_preprocessing("lenet")
    assert models.preprocessing("mlp") == {}
    assert models.preprocessing("lenet") == {"size": 32}
    assert models.preprocessing("lenet", padding=2) == {}
    assert set(models.preprocessing("resnet18")) == {"mean", "std"}
