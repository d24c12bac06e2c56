"""Networks of other libraries by name, randomly initialised: torchvision, timm, transformers."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from lla.arguments import seed_number
from lla.errors import InputError, MissingDataError, in_one_line
from lla.models.zoo import timm_model, torchvision_model
from lla.seeding import seeded

Library = Literal["torchvision", "timm"]


def library_model(
    library: Library, name: str, num_classes: int | None = None, seed: int = 0
) -> nn.Module:
    """Build a randomly initialised network of torchvision or timm, the same one on every call.

    Args:
        library: which.
        name: of the network there.
        num_classes: outputs of its last layer; None takes 1000.
        seed: of the initialisation.

    Raises:
        InputError: the library has no such network, or cannot build it.

    >>> len(library_model("torchvision", "squeezenet1_1", 10).classifier)
    4
    """
    make = {"torchvision": torchvision_model, "timm": timm_model}[library]
    with seeded(torch.device("cpu"), seed_number(seed)):
        try:
            return make(name, 1000 if num_classes is None else num_classes)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # of constructors of other libraries
            raise InputError(
                f"{library} cannot build {name!r} ({in_one_line(error)}): choose one of its names"
            ) from error


def transformer(
    name: str, seed: int = 0, *, pretrained: bool = False, download: bool = False
) -> tuple[nn.Module, str | None]:
    """Build a network of transformers from its configuration.

    The class is the first one that the configuration names under `architectures`, else that of
    `transformers.AutoModel`.

    Args:
        name: a folder with config.json, or a name on the Hugging Face hub.
        seed: of random weights.
        pretrained: take the weights of that folder or name.
        download: whether files may be fetched from the hub.

    Returns:
        The network in eval mode, and what its weights are; None for random weights.

    Raises:
        InputError: transformers is not installed, or cannot build the network.
        MissingDataError: there is no such configuration here, and it may not be fetched.
    """
    try:
        import transformers
    except ImportError as error:
        raise InputError(
            "networks of hf: need the package transformers: install it with pip install "
            "transformers"
        ) from error
    here: dict[str, Any] = {"local_files_only": not download}
    try:
        config = transformers.AutoConfig.from_pretrained(name, **here)
    except Exception as error:  # it documents no type
        raise MissingDataError(
            f"there is no configuration {name!r}: name a folder with config.json, or allow "
            "downloads"
        ) from error
    kinds = getattr(config, "architectures", None) or ["AutoModel"]
    kind = getattr(transformers, kinds[0], None)
    if kind is None:
        raise InputError(f"transformers has no {kinds[0]}, which {name!r} asks for: update it")
    try:
        if pretrained:
            return kind.from_pretrained(name, **here).eval(), f"weights of {name}"
        with seeded(torch.device("cpu"), seed_number(seed)):
            made = kind.from_config(config) if kinds[0] == "AutoModel" else kind(config)
    except MemoryError:
        raise
    except Exception as error:
        raise InputError(
            f"transformers cannot build {name!r} ({in_one_line(error)}): check its configuration"
        ) from error
    return made.eval(), None
