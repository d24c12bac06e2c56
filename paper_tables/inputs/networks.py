"""The paper's six networks with their weights and images, at the profile's size.

LeNet sees MNIST as in Table 2, the others photographs of ImageNet-1K, or, where there are none,
crops of two bundled photographs; ResNet20, which is not in the paper, sees CIFAR-10. For a
network and a weight state, tables first ask where the weights come from and how faithful they are
(`origin`, which loads nothing), then for the network (`load`) and its batch (`batch`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from lla import data, models
from lla.data import ImageSet, PictureSet
from lla.errors import MissingDataError
from lla.training import weights_sha256
from paper_tables.engine.cells import Settings, SharedStep
from paper_tables.engine.fidelity import cell_fidelity
from paper_tables.engine.profiles import PROFILES, Profile
from paper_tables.engine.records import Source
from paper_tables.engine.session import session_cached
from paper_tables.inputs import image_sets, lenet
from paper_tables.inputs.image_sets import Batches

State = Literal["random", "pretrained"]
STATES: tuple[State, ...] = ("random", "pretrained")

BATCHNORM = (nn.modules.batchnorm._BatchNorm,)

SEED = 0  # of initialisation and of the choice of images
NO_DOWNLOAD = "no weights: the download failed"  # the error itself names folders of this machine
DIGITS_A_PICTURE = 32  # LeNet's batch is larger: 2048 against 64, as for the paper's criteria


@dataclass(frozen=True)
class Network:
    """One row of the paper's tables."""

    row: str
    name: str  # in lla.models
    millions: float  # of parameters
    stand_in: bool = False  # it is not the paper's network
    data: Literal["mnist", "cifar10", "imagenet"] = "imagenet"

    @property
    def digits(self) -> bool:
        """Whether it sees MNIST."""
        return self.data == "mnist"


@dataclass(frozen=True)
class Origin:
    """Where the weights of a network come from, and how faithful they are."""

    fidelity: str | None  # None: there are no weights
    note: str  # what they are, or why there are none
    config: dict[str, Any] = field(default_factory=dict)  # everything that determines them
    shared: SharedStep | None = None  # the training that makes them


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


# For studies: small, with BatchNorm in residual blocks like the paper's ResNet18.
RESNET20 = Network("resnet20", "resnet20", 0.27, data="cifar10")
# with published weights too
RESNET44 = Network("resnet44", "resnet44", 0.66, data="cifar10")
RESNET56 = Network("resnet56", "resnet56", 0.86, data="cifar10")

RESNET50 = Network("resnet50", "resnet50", 25.6)  # Table 4 has it in place of ResNet18


def network(profile: Profile, row: str) -> Network:
    """One of the paper's networks, or of the others that are named here, by its row.

    >>> network(PROFILES["paper"], "vit").name
    'vit_base_patch16_224'
    """
    others = (RESNET20, RESNET44, RESNET56, RESNET50)
    return next(found for found in (*networks(profile), *others) if found.row == row)


def _image_count(profile: Profile, net: Network) -> int:
    """How many images a network's batch has, if the set is large enough."""
    return profile.images * (DIGITS_A_PICTURE if net.digits else 1)


def _side(profile: Profile, net: Network, state: State) -> int:
    """Pixels along a side of a network's images."""
    if net.data != "imagenet":
        return lenet.SIZE  # CIFAR-10's pictures have the same side
    return profile.side if state == "random" else profile.trained_side


def options(net: Network, pixels: int) -> dict[str, Any]:
    """The options of a network's constructor for pictures with `pixels` along a side."""
    return {"img_size": pixels} if net.row == "vit" and pixels != 224 else {}


@session_cached()
def pictures(settings: Settings) -> PictureSet:
    """The photographs: ImageNet's where they are found, else the bundled crops, a stand-in."""
    try:
        return data.load_pictures("imagenet", settings.data_root)
    except MissingDataError:
        return data.load_pictures("sample-crops")


def new_images(settings: Settings) -> PictureSet:
    """Photographs that are not in ImageNet (the paper's NI).

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


def config_of(settings: Settings, net: Network, state: State) -> dict[str, Any]:
    """Everything that determines a network, its weights and its batch."""
    pixels, found = _side(settings.profile, net, state), _image_set(settings, net)
    return {
        "model": net.name,
        "state": state,
        **origin(settings, net, state).config,
        **image_sets.config_of(found),
        "options": options(net, pixels),
        "images": min(_image_count(settings.profile, net), len(found)),
        "side": pixels,
        "image_seed": SEED,
    }


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
        return Origin(None, f"no weights: {found.advice}")
    fidelity = "substitute" if net.stand_in else found.fidelity or "paper"  # a download's
    note = found.note if known else f"{net.name}, published weights"
    return Origin(fidelity, note, {"weights_file": found.file or "published"})


def fidelity(settings: Settings, net: Network, state: State) -> str | None:
    """How faithful to the paper a plane of a network is, apart from its grid.

    Returns:
        The least faithful of weights, data, and size; None where there are no weights.
    """
    weights = origin(settings, net, state).fidelity
    if weights is None:
        return None
    profile, paper = settings.profile, PROFILES["paper"]
    whole = _image_count(profile, net) >= _image_count(paper, net)
    whole &= _side(profile, net, state) >= _side(paper, net, state)
    return cell_fidelity(weights, _image_set(settings, net).fidelity, whole=whole)


@dataclass(frozen=True)
class Loaded:
    """A network with the weights of a state."""

    model: nn.Module
    weights: Source
    name: str  # in lla.models; of a variant if the weights are for that


@session_cached(size=1)
def load(
    settings: Settings, net: Network, state: State, pixels: int | None = None, init: str = "torch"
) -> Loaded:
    """A network on the session's device; only the last one is kept in memory.

    Args:
        settings: of the session.
        net: which.
        state: its weights.
        pixels: of a side of its pictures; those of its planes by default.
        init: how random weights are drawn.

    Raises:
        MissingDataError: its weights are not found.
    """
    chosen = options(net, pixels or _side(settings.profile, net, state))
    if state == "random":
        classes = 1000 if net.data == "imagenet" else 10
        model = models.build(net.name, classes, SEED, init, **chosen)  # type: ignore[arg-type]
        source = Source(f"{net.name}, {init} init, seed {SEED}", weights_sha256(model))
        return Loaded(model.to(settings.device), source, net.name)
    if origin(settings, net, state).shared is not None:
        model, source, _ = lenet.network(settings, "trained")
        return Loaded(model, source, net.name)
    # a file that is there is taken, as `origin` says, even if a download would be more faithful
    root, there = settings.data_root, models.find_pretrained(net.name, settings.data_root)
    download = settings.download and not there.available
    found = models.pretrained(net.name, root=root, download=download, **chosen)
    source = Source(found.file, found.sha256)
    return Loaded(found.model.to(settings.device), source, found.architecture)


@session_cached(size=1)
def batch(settings: Settings, net: Network, state: State) -> Batches:
    """The batch of a network, on the session's device, preprocessed as its weights expect."""
    config, found = config_of(settings, net, state), _image_set(settings, net)
    if isinstance(found, ImageSet):
        return image_sets.draw(settings, net.name, found, config["images"], 1, SEED)
    name = net.name if state == "random" else load(settings, net, state).name
    size = config["side"], config["images"]
    drawn = image_sets.draw_pictures(settings, name, found, *size, count=1, seed=SEED)
    return image_sets.of_pictures(drawn)


def _image_set(settings: Settings, net: Network) -> ImageSet | PictureSet:
    if net.data == "imagenet":
        return pictures(settings)
    return lenet.images(settings) if net.digits else _cifar10(settings)


@session_cached()
def _cifar10(settings: Settings) -> ImageSet:
    return data.load("cifar10", "train", settings.data_root)


def _trained_here(settings: Settings) -> Origin:
    """LeNet as Table 2 trains it."""
    image_set = lenet.images(settings)
    config = {"training": lenet.training_config(settings)}
    note = f"LeNet trained on {image_set.name}, as for Table 2"
    rank = cell_fidelity(image_set.fidelity, whole=lenet.trains_as_long(settings.profile))
    return Origin(rank, note, config, lenet.training_step(settings))
