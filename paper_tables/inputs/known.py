"""Networks of `lla.models` with the weights and the images that are found, for any study.

Trained weights and real images are taken where they are found; random weights and bundled images
stand in for them. The paper's own networks, at the settings of its tables, are in `networks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lla import data, models
from lla.data import ImageSet, PictureSet
from lla.errors import MissingDataError
from lla.tensor_hashes import weights_sha256
from paper_tables.engine.cells import Settings
from paper_tables.engine.fidelity import cell_fidelity
from paper_tables.engine.records import Source
from paper_tables.engine.session import session_cached
from paper_tables.inputs import image_sets, networks
from paper_tables.inputs.image_sets import Batches

SEED = 0  # of random weights and the choice of images
# data -> set and, where it is not found, a bundled set and its split
SETS = {"cifar10": ("cifar10", "rendered-digits", "test"), "mnist": ("mnist", "digits", "train")}


@dataclass(frozen=True)
class Known:
    """A network of `lla.models`.

    Attributes:
        name: in `lla.models`.
        data: what it sees.
        trained: take its weights where they are found.
    """

    name: str
    data: Literal["mnist", "cifar10", "imagenet", "ni"]
    trained: bool = True

    @property
    def classes(self) -> int:
        """Of its data."""
        return 1000 if self.data in ("imagenet", "ni") else 10


def weights_found(settings: Settings, net: Known) -> bool:
    """Whether trained weights are wanted and found."""
    return net.trained and models.find_pretrained(net.name, settings.data_root).available


@session_cached(size=1)
def loaded(
    settings: Settings, net: Known, dtype: torch.dtype = torch.float32
) -> tuple[nn.Module, Source]:
    """A network in eval mode, on the session's device, and what its weights are."""
    if weights_found(settings, net):
        trained = models.pretrained(net.name, root=settings.data_root)
        model, source = trained.model, Source(trained.file, trained.sha256)
    else:
        model = models.build(net.name, net.classes, SEED)
        source = Source(f"{net.name}, torch init, seed {SEED}", weights_sha256(model))
    return model.to(settings.device).eval().to(dtype), source


def config_of(settings: Settings, net: Known, images: int, side: int = 32) -> dict[str, Any]:
    """Everything that determines a network, its weights and its images.

    Args:
        settings: of the session.
        net: the network.
        images: of a batch.
        side: of photographs, pixels.
    """
    file = models.find_pretrained(net.name, settings.data_root).file if net.trained else None
    return {
        "model": net.name,
        "weights": file if weights_found(settings, net) else f"random, seed {SEED}",
        **image_sets.config_of(_images(settings, net)),
        "images": images,
        "side": side,
        "image_seed": SEED,
    }


def fidelity(settings: Settings, net: Known) -> str:
    """How faithful weights and images are; random weights stand in for trained ones."""
    weights: str | None = "paper"
    if net.trained:
        found = models.find_pretrained(net.name, settings.data_root)
        weights = (found.fidelity or "substitute") if found.available else "substitute"
    return cell_fidelity(weights, _images(settings, net).fidelity, whole=False)


@session_cached(size=1)
def batches(settings: Settings, net: Known, images: int, count: int = 1, side: int = 32) -> Batches:
    """Disjoint batches of a network, preprocessed as its weights expect.

    Args:
        settings: of the session.
        net: the network.
        images: of a batch.
        count: of batches.
        side: of photographs, pixels.
    """
    found = _images(settings, net)
    if isinstance(found, PictureSet):
        drawn = image_sets.draw_pictures(settings, net.name, found, side, images, count, SEED)
        return image_sets.of_pictures(drawn)
    return image_sets.draw(settings, net.name, found, images, count, SEED)


def layers_of(net: Known) -> dict[str, int]:
    """The linear layers and convolutions of a network, in order, and their numbers of outputs."""
    return outputs_of(models.build(net.name, net.classes, SEED))


def outputs_of(model: nn.Module) -> dict[str, int]:
    """The linear layers and convolutions of a model, in order, and their numbers of outputs."""
    return {
        name: len(module.weight)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }


def typed(pair: tuple[Tensor, Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A batch with its inputs in a type."""
    return pair[0].to(dtype), pair[1]


def _images(settings: Settings, net: Known) -> ImageSet | PictureSet:
    if net.data == "ni":
        return networks.new_images(settings)
    return networks.pictures(settings) if net.data == "imagenet" else _set(settings, net.data)


@session_cached()
def _set(settings: Settings, name: str) -> ImageSet:
    """The training images of a set, or those of a bundled one that stand in for them."""
    first, bundled, split = SETS[name]
    try:
        return data.load(first, "train", settings.data_root, download=settings.download)
    except MissingDataError:
        return data.load(bundled, split)
