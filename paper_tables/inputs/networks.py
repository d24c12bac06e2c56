"""The paper's six networks with their weights and images, at the profile's size.

LeNet sees MNIST as in Table 2, the others photographs of ImageNet-1K, or, where there are none,
crops of two bundled photographs; ResNet20, which the paper has not, sees CIFAR-10. What a table
needs of a network and a weight state is asked for here: first whether it can be had and how
faithful it is (`origin`, which loads nothing), then the network (`load`) and its batch (`inputs`).
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from lla import data, models, training
from lla.data import ImageSet, PictureSet
from lla.errors import MissingDataError
from paper_tables.engine.cells import Settings, SharedStep, least_faithful
from paper_tables.engine.profiles import PROFILES, Profile
from paper_tables.engine.records import Source
from paper_tables.inputs import lenet

__all__ = [
    "BATCHNORM",
    "RESNET20",
    "RESNET50",
    "STATES",
    "Inputs",
    "Loaded",
    "Network",
    "Origin",
    "State",
    "data_config",
    "fidelity",
    "images",
    "inputs",
    "listing",
    "load",
    "modes_alike",
    "network",
    "networks",
    "new_images",
    "options",
    "origin",
    "pictures",
    "side",
]

State = Literal["random", "pretrained"]
STATES: tuple[State, ...] = ("random", "pretrained")

BATCHNORM = (nn.modules.batchnorm._BatchNorm,)

SEED = 0  # of initialisation and of the choice of images
DIGITS_A_PICTURE = 32  # LeNet's batch is larger: 2048 against 64, as for the paper's criteria


@dataclass(frozen=True)
class Network:
    """One row of the paper's tables."""

    row: str
    name: str  # in lla.models
    millions: float  # of parameters
    stand_in: bool = False  # another network than the paper's
    data: Literal["mnist", "cifar10", "imagenet"] = "imagenet"

    @property
    def digits(self) -> bool:
        """Whether it sees MNIST."""
        return self.data == "mnist"


@dataclass(frozen=True)
class Origin:
    """Where the weights of a network come from, and how faithful they are."""

    fidelity: str | None  # None: cannot be had
    note: str  # what they are, or why there are none
    config: dict[str, Any] = field(default_factory=dict)  # everything that determines them
    shared: SharedStep | None = None  # that makes them


@dataclass(frozen=True)
class Inputs:
    """One batch of a network."""

    pairs: list[tuple[Tensor, Tensor]]
    source: Source  # the data set
    sha256: str  # of the very examples drawn


def networks(profile: Profile) -> tuple[Network, ...]:
    """The paper's networks, in its order, at the profile's size."""
    vit = "vit_tiny_patch16_224" if profile.small_vit else "vit_base_patch16_224"
    return (
        Network("lenet", "lenet", 0.06, data="mnist"),
        Network("resnet18", "resnet18", 11.7),
        Network("alexnet", "alexnet", 61.1),
        Network("squeezenet", "squeezenet1_1", 1.2),
        Network("mobilenet", "mobilenet_v2", 3.5),
        Network("vit", vit, 5.7 if profile.small_vit else 86.6, stand_in=profile.small_vit),
    )


# Trained with BatchNorm in residual blocks, as the paper's ResNet18, and small: for studies.
RESNET20 = Network("resnet20", "resnet20", 0.27, data="cifar10")

RESNET50 = Network("resnet50", "resnet50", 25.6)  # Table 4 has it in ResNet18's place


def network(profile: Profile, row: str) -> Network:
    """One of them, or ResNet20 or ResNet50, by its row.

    >>> network(PROFILES["paper"], "vit").name
    'vit_base_patch16_224'
    """
    return next(found for found in (*networks(profile), RESNET20, RESNET50) if found.row == row)


def images(profile: Profile, net: Network) -> int:
    """How many images a network's batch has, if there are as many."""
    return profile.images * (DIGITS_A_PICTURE if net.digits else 1)


def side(profile: Profile, net: Network, state: State) -> int:
    """Pixels along a side of a network's images."""
    if net.data != "imagenet":
        return lenet.SIZE  # CIFAR-10's pictures have the same
    return profile.side if state == "random" else profile.trained_side


def options(net: Network, pixels: int) -> dict[str, Any]:
    """The options of a network's constructor for pictures of so many pixels a side."""
    return {"img_size": pixels} if net.row == "vit" and pixels != 224 else {}


def pictures(settings: Settings) -> PictureSet:
    """The photographs: ImageNet's where they are found, else the bundled crops, a stand-in."""
    return _pictures(settings.data_root)


def new_images(settings: Settings) -> PictureSet:
    """The photographs that ImageNet does not have (the paper's NI).

    Raises:
        MissingDataError: there are none; nothing bundled stands in for them.
    """
    return data.load_pictures("ni", settings.data_root)


def modes_alike(model: nn.Module) -> bool:
    """Whether train and eval mode are one function: no BatchNorm, and nothing is dropped."""
    return not any(
        isinstance(module, BATCHNORM)
        or getattr(module, "p", 0) != 0  # of dropout
        or getattr(module, "drop_prob", 0) != 0  # of timm's stochastic depth
        for module in model.modules()
    )


@functools.cache
def _pictures(root: object) -> PictureSet:
    try:
        return data.load_pictures("imagenet", root)  # type: ignore[arg-type]
    except MissingDataError:
        return data.load_pictures("sample-crops")


def data_config(settings: Settings, net: Network, state: State) -> dict[str, Any]:
    """Everything that determines a network's batch."""
    profile = settings.profile
    size = {"images": images(profile, net), "side": side(profile, net, state), "image_seed": SEED}
    if net.data != "imagenet":
        image_set = _small(settings, net)
        size["images"] = min(size["images"], len(image_set))
        sha256 = image_set.sha256
        return {"data": image_set.name, "split": image_set.split, "data_sha256": sha256, **size}
    found = pictures(settings)
    size["images"] = min(size["images"], len(found))
    return {"data": found.name, "split": found.split, "data_sha256": listing(found), **size}


def origin(settings: Settings, net: Network, state: State) -> Origin:
    """Where the weights of a state come from; loads nothing."""
    if state == "random":
        config = {"init": "torch", "init_seed": SEED}
        stand_in = " (a smaller stand-in for the paper's ViT-B)" if net.stand_in else ""
        note = f"{net.name}{stand_in}, torch init, seed {SEED}"
        return Origin("substitute" if net.stand_in else "paper", note, config)
    found = models.find_pretrained(net.name, settings.data_root)
    known = found.available
    if net.digits and not known:
        return _trained_here(settings)
    if not known and not settings.download:
        # what follows names folders of this machine
        reason = f"no weights: {found.note.partition('; looked in')[0]}"
        return Origin(None, reason)
    rank = found.fidelity or "paper"  # of what will be downloaded
    if net.stand_in:
        rank = "substitute"
    note = found.note if known else f"{net.name}, published weights"
    return Origin(rank, note, {"weights_file": found.file or "published"})


def fidelity(settings: Settings, net: Network, state: State) -> str | None:
    """How faithful to the paper a plane of a network is, its grid apart.

    Returns:
        The least faithful of weights, data, and size; None where there are no weights.
    """
    weights = origin(settings, net, state).fidelity
    if weights is None:
        return None
    paper = PROFILES["paper"]
    profile = settings.profile
    size = "paper"
    if images(profile, net) < images(paper, net) or side(profile, net, state) < side(
        paper, net, state
    ):
        size = "reduced"
    if net.data != "imagenet":
        image_set = _small(settings, net)
        images_fidelity = image_set.fidelity if image_set.name == net.data else "substitute"
    else:
        images_fidelity = pictures(settings).fidelity
    return least_faithful((weights, size, images_fidelity))


@dataclass(frozen=True)
class Loaded:
    """A network with the weights of a state."""

    model: nn.Module
    weights: Source
    name: str  # in lla.models, of what was really built: some weights are for a variant


def load(settings: Settings, net: Network, state: State, pixels: int | None = None) -> Loaded:
    """A network on the session's device; the last one is kept, so ask for one after another.

    Args:
        settings: of the session.
        net: which.
        state: its weights.
        pixels: of a side of its pictures; those of its planes by default.

    Raises:
        MissingDataError: its weights cannot be had.
    """
    return _load(settings, net, state, pixels or side(settings.profile, net, state))


@functools.lru_cache(maxsize=1)
def _load(settings: Settings, net: Network, state: State, pixels: int) -> Loaded:
    chosen = options(net, pixels)
    if state == "random":
        classes = 1000 if net.data == "imagenet" else 10
        model = models.build(net.name, classes, SEED, "torch", **chosen)
        source = Source(f"{net.name}, torch init, seed {SEED}", training.weights_sha256(model))
        return Loaded(model.to(settings.device), source, net.name)
    if origin(settings, net, state).shared is not None:
        trained = lenet.trained(settings)
        name = f"lenet trained here, {trained.result.epochs} epochs"
        source = Source(name, training.weights_sha256(trained.after))
        return Loaded(trained.after, source, net.name)
    found = models.pretrained(
        net.name, root=settings.data_root, download=settings.download, **chosen
    )
    source = Source(found.file, found.sha256)
    return Loaded(found.model.to(settings.device), source, found.architecture)


def inputs(settings: Settings, net: Network, state: State) -> Inputs:
    """The batch of a network, on the session's device, preprocessed as its weights expect."""
    if net.data == "imagenet":
        return _photographs(settings, net, state)
    image_set = _small(settings, net)
    count = data_config(settings, net, state)["images"]
    chosen = models.preprocessing(net.name)
    pairs = data.batches(image_set, count, 1, seed=SEED, device=settings.device, **chosen)
    source = Source(image_set.name, image_set.sha256)
    return Inputs(pairs, source, lenet.batches_sha256(pairs))


def _small(settings: Settings, net: Network) -> ImageSet:
    """The images of 32 pixels."""
    return lenet.images(settings) if net.digits else _cifar10(settings.data_root)


@functools.cache
def _cifar10(root: object) -> ImageSet:
    return data.load("cifar10", "train", root)  # type: ignore[arg-type]


@functools.lru_cache(maxsize=1)
def _photographs(settings: Settings, net: Network, state: State) -> Inputs:
    name = net.name if state == "random" else load(settings, net, state).name
    found = pictures(settings)
    batches = data.picture_batches(
        found,
        models.picture_preprocessing(name, side(settings.profile, net, state)),
        data_config(settings, net, state)["images"],
        count=1,
        seed=SEED,
        device=settings.device,
    )
    return Inputs(batches.pairs, Source(found.name, listing(found)), batches.sha256)


def _trained_here(settings: Settings) -> Origin:
    """LeNet as Table 2 trains it."""
    image_set = lenet.images(settings)
    profile = lenet.fitted(settings.profile, image_set)
    config = {"training": lenet.training_config(profile, image_set)}
    note = f"LeNet trained on {image_set.name}, as for Table 2"
    rank = "reduced" if image_set.name == "mnist" else "substitute"
    return Origin(rank, note, config, lenet.training_step(settings, image_set))


def listing(found: PictureSet) -> str:
    """Digest of which pictures a set has; those drawn are hashed by their content."""
    lines = [
        f"{file} {label}" for file, label in zip(found.files, found.labels.tolist(), strict=True)
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
