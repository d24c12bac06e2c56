"""Networks of torchvision and timm by name, randomly initialised."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from lla.arguments import seed_number
from lla.errors import InputError, in_one_line
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
