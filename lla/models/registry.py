"""The registry of models: name -> constructor, with the random initialisation under a seed."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, Literal

import torch
from torch import nn

from lla.errors import InputError
from lla.models.lenet import MLP, LeNet
from lla.models.resnet20 import ResNet20

MODELS: dict[str, Callable[..., nn.Module]] = {
    "lenet": LeNet,
    "mlp": MLP,
    "resnet20": ResNet20,
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
        seed: Of the initialisation; the global random state is left alone.
        init: `torch` is what the model's constructor does, which for the models here is torch's
            default for every layer. `uniform` draws the weight and the bias of every layer with
            one afresh from U(-b, b), b = 1 / sqrt(fan_in); only normalisation layers, which have
            no weights of two or more dimensions, keep their ones and zeros. That is torch's own
            law for linear and convolution layers, so both differ in law only for models that
            initialise themselves otherwise.
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
        near = get_close_matches(name, MODELS, n=1)
        hint = f"did you mean {near[0]!r}" if near else f"choose from {', '.join(MODELS)}"
        raise InputError(f"there is no model {name!r}: {hint}.")
    if init not in ("torch", "uniform"):
        raise InputError(f"there is no initialisation {init!r}: choose torch or uniform.")
    # The CPU generator alone: torch.manual_seed would also seed every accelerator.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            model = MODELS[name](num_classes=num_classes, **options)
        except TypeError as error:
            raise InputError(f"model {name!r} cannot be built: {error}.") from error
        if init == "uniform":
            _draw_uniform(model)
    return model


@torch.no_grad()
def _draw_uniform(model: nn.Module) -> None:
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        weights = [parameter for parameter in own if parameter.ndim >= 2]
        if not weights:
            continue
        fan_in = weights[0][0].numel()
        for parameter in own:
            fan = parameter[0].numel() if parameter.ndim >= 2 else fan_in
            parameter.uniform_(-(fan**-0.5), fan**-0.5)
