"""The registry of models: name -> constructor, with the random initialisation under a seed."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from lla.arguments import seed_number, whole_number
from lla.errors import InputError, first_line, unknown_name
from lla.models.lenet import MLP, LeNet
from lla.models.resnet20 import ResNet20
from lla.models.zoo import ZOO
from lla.seeding import seeded

MODELS: dict[str, Callable[..., nn.Module]] = {
    "lenet": LeNet,
    "mlp": MLP,
    "resnet20": ResNet20,
    "resnet44": partial(ResNet20, blocks=7),
    "resnet56": partial(ResNet20, blocks=9),
    **ZOO,
}


def register(name: str, constructor: Callable[..., nn.Module]) -> None:
    """Add a model to the registry.

    Args:
        name: A new name.
        constructor: Called as `constructor(num_classes=..., **options)`.

    Raises:
        InputError: The name is taken.
    """
    if name in MODELS:
        raise InputError(f"a model is already registered as {name!r}: take another name.")
    MODELS[name] = constructor


def names() -> tuple[str, ...]:
    """Name every registered model."""
    return tuple(MODELS)


def build(
    name: str,
    num_classes: int = 10,
    seed: int = 0,
    init: Literal["torch", "uniform"] = "torch",
    **options: Any,
) -> nn.Module:
    """Build a randomly initialised model on the CPU, the same one on every call.

    Args:
        name: A registered name, see `names`.
        num_classes: Outputs of the last layer.
        seed: Of the initialisation; the global random state does not change.
        init: `torch` is what the model's constructor does: torch's default for every layer of
            LeNet, the perceptron, ResNet20 and AlexNet, and other distributions for the others
            (normal for ResNet18 and 50, MobileNetV2, ViT). `uniform` draws weights and biases from
            U(-b, b), b = 1 / sqrt(fan_in), except in normalisation layers, which have no weights of
            two or more dimensions and keep their ones and zeros. This is torch's own distribution
            for linear and convolution layers, so the two differ only for models that initialise
            themselves in another way. For a class token or a position embedding, which no layer
            multiplies, fan_in is its width.
        **options: Of the constructor, such as `padding` of `lenet`.

    Returns:
        The model, in training mode, in float32.

    Raises:
        InputError: No such model, option or initialisation.

    Example:
        >>> model = build("lenet", padding=2)
        >>> sum(p.numel() for p in model.parameters())
        61706
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    if init not in ("torch", "uniform"):
        raise InputError(f"there is no initialisation {init!r}: choose torch or uniform.")
    num_classes, seed = whole_number("num_classes", num_classes, 1), seed_number(seed)
    with seeded(torch.device("cpu"), seed):
        try:
            model = MODELS[name](num_classes=num_classes, **options)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # constructors of other libraries raise many
            reason = first_line(error).rstrip(".")
            raise InputError(f"model {name!r} cannot be built: {reason}.") from error
        if init == "uniform":
            _draw_uniform(model)
    return model


@torch.no_grad()
def _draw_uniform(model: nn.Module) -> None:
    for module in model.modules():
        own = list(module.named_parameters(recurse=False))
        fans = {name: _fan_in(name, tensor) for name, tensor in own if tensor.ndim >= 2}
        if not fans:
            continue
        first = next(iter(fans.values()))
        for name, parameter in own:
            bound = fans.get(name, first) ** -0.5
            parameter.uniform_(-bound, bound)


def _fan_in(name: str, parameter: nn.Parameter) -> int:
    """The number of terms of one output; for what is added to tokens, the width of a token."""
    added_to_tokens = name != "weight" and parameter.shape[0] == 1
    return parameter.shape[-1] if added_to_tokens else parameter[0].numel()
