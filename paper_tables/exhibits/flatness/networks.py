"""Flatness of the layers of known networks: the last one in closed form, all of small networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from lla import data, models
from lla.errors import MissingDataError
from lla.layers.flatness import flatness
from lla.layers.flatness_result import Flatness
from lla.training import weights_sha256
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.fidelity import cell_fidelity
from paper_tables.engine.records import Record, Source
from paper_tables.engine.session import session_cached
from paper_tables.inputs import image_sets, networks
from paper_tables.inputs.image_sets import Batches

TABLE = "flatness_networks"
LAST, ALL = "last layer", "all layers"
OF_LAYER = ("kappa", "kappa_diag", "trace", "neuronwise")
SEED = 0
SMALL_IMAGES = 64  # of CIFAR-10 and MNIST
# data -> names in the registry, the most faithful first; the last one is bundled
SETS = {"cifar10": ("cifar10", "rendered-digits"), "mnist": ("mnist", "digits")}


@dataclass(frozen=True)
class Known:
    """A network with a layer that the closed form covers.

    Attributes:
        row: its row, and its name in `lla.models` if `model` is empty.
        layer: the last layer before the average, or the classifier.
        data: what it sees.
        trained: take its weights where they are found.
        model: its name in `lla.models`.
        every: when all layers are measured, too.
    """

    row: str
    layer: str
    data: Literal["mnist", "cifar10", "imagenet"]
    trained: bool = False
    model: str = ""
    every: Literal["never", "real", "always"] = "never"  # "real": only with --real-data

    @property
    def name(self) -> str:
        """Its name in `lla.models`."""
        return self.model or self.row


NETWORKS = (
    Known("lenet", "fc3", "mnist", trained=True, every="always"),
    Known("resnet20", "layer3.2.conv2", "cifar10", trained=True, every="always"),
    Known("resnet56", "layer3.8.conv2", "cifar10", trained=True, every="real"),
    Known("squeezenet", "classifier.1", "imagenet", trained=True, model="squeezenet1_1"),
    Known("mobilenet", "features.18.0", "imagenet", model="mobilenet_v2"),
    Known("resnet18", "layer4.1.conv2", "imagenet"),
    Known("resnet50", "layer4.2.conv3", "imagenet"),
)
SECONDS = {"lenet": 1, "resnet20": 8, "resnet56": 50}  # all layers on 64 images


def network(row: str) -> Known:
    """One of the networks, by its row."""
    return next(net for net in NETWORKS if net.row == row)


def cells(settings: Settings) -> list[Cell]:
    """The last layer of every network, and all layers of small ones."""
    found = []
    for net in NETWORKS:
        found.append(_cell(settings, net, LAST))
        if net.every == "always" or (net.every == "real" and settings.profile.runs.real):
            found.append(_cell(settings, net, ALL))
    return found


def layers_of(net: Known) -> list[str]:
    """The linear and convolution layers of a small network, in order."""
    model = models.build(net.name, 10, SEED)
    kinds = (nn.Linear, nn.Conv2d)
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]


def _cell(settings: Settings, net: Known, column: str) -> Cell:
    layers = [net.layer] if column == LAST else layers_of(net)
    facts = input_config(settings, net)
    return Cell(
        table=TABLE,
        row=net.row,
        column=column,
        name=f"{net.row}-{column.replace(' ', '-')}",
        metrics=OF_LAYER if column == LAST else tuple(
            f"{metric} {layer}" for layer in layers for metric in OF_LAYER[::2]
        ),
        config={**facts, "layers": layers, "method": "auto", "mode": "eval", "dtype": "float32"},
        fidelity=input_fidelity(settings, net),
        inputs=f"{net.name}, {facts['weights']}, on {facts['images']} x {facts['side']} px of "
        f"{facts['data']}",
        compute=_compute,
        stage=1,
        seconds=SECONDS.get(net.row, 3) if column == ALL else 3,
        memory=2 * 2**30,
    )  # fmt: skip


def _compute(cell: Cell, settings: Settings) -> list[Record]:
    net = network(cell.row)
    model, weights = loaded(settings, net)
    batches = drawn(settings, net)
    found = flatness(model, batches.pairs, cell.config["layers"])
    facts = batches.facts(weights)
    if cell.column == LAST:
        layer = found[net.layer]
        note = f"{net.layer}, {layer.method}: {layer.why}"
        values = (layer.kappa.value, layer.kappa_diag.value, layer.trace.value, layer.neuronwise)
        return [
            cell.record(metric, value, note=note, **facts)
            for metric, value in zip(OF_LAYER, values, strict=True)
        ]
    return _of_layers(cell, found, facts)


def _of_layers(cell: Cell, found: Flatness, facts: dict[str, Any]) -> list[Record]:
    return [
        cell.record(
            f"{metric} {layer.name}", getattr(layer, metric).value, note=layer.method, **facts
        )
        for layer in found
        for metric in OF_LAYER[::2]
    ]


# --- networks and what they see


def weights_found(settings: Settings, net: Known) -> bool:
    """Whether trained weights are wanted and found."""
    return net.trained and models.find_pretrained(net.name, settings.data_root).available


@session_cached(size=1)
def loaded(settings: Settings, net: Known) -> tuple[nn.Module, Source]:
    """A network on the session's device, in eval mode, and what its weights are."""
    if weights_found(settings, net):
        trained = models.pretrained(net.name, root=settings.data_root)
        return trained.model.to(settings.device), Source(trained.file, trained.sha256)
    model = models.build(net.name, 1000 if net.data == "imagenet" else 10, SEED)
    source = Source(f"{net.name}, torch init, seed {SEED}", weights_sha256(model))
    return model.to(settings.device).eval(), source


def input_config(settings: Settings, net: Known) -> dict[str, Any]:
    """Everything that determines a network, its weights and its images."""
    images = _images(settings, net)
    pictures = settings.profile.criteria
    photographs = net.data == "imagenet"
    file = models.find_pretrained(net.name, settings.data_root).file if net.trained else None
    return {
        "model": net.name,
        "weights": file if weights_found(settings, net) else f"random, seed {SEED}",
        **image_sets.config_of(images),
        "images": pictures.batch_size if photographs else SMALL_IMAGES,
        "side": pictures.side if photographs else 32,
        "image_seed": SEED,
    }


def input_fidelity(settings: Settings, net: Known) -> str:
    """How faithful weights and images are; random weights stand in for trained ones."""
    if net.trained and not weights_found(settings, net):
        return "substitute"
    fidelity = "paper"
    if net.trained:
        fidelity = models.find_pretrained(net.name, settings.data_root).fidelity or "substitute"
    return cell_fidelity(fidelity, _images(settings, net).fidelity, whole=False)


@session_cached(size=1)
def drawn(settings: Settings, net: Known) -> Batches:
    """The batch of a network, preprocessed as its weights expect."""
    config, images = input_config(settings, net), _images(settings, net)
    if net.data == "imagenet":
        size = (config["side"], config["images"])
        found = image_sets.draw_pictures(settings, net.name, images, *size, count=1, seed=SEED)  # type: ignore[arg-type]
        return image_sets.of_pictures(found)
    return image_sets.draw(settings, net.name, images, config["images"], 1, SEED)  # type: ignore[arg-type]


def _images(settings: Settings, net: Known) -> data.ImageSet | data.PictureSet:
    return networks.pictures(settings) if net.data == "imagenet" else _set(settings, net.data)


@session_cached()
def _set(settings: Settings, name: str) -> data.ImageSet:
    """The training images of a set, or those of a bundled one that stand in for them."""
    first, bundled = SETS[name]
    try:
        return data.load(first, "train", settings.data_root, download=settings.download)
    except MissingDataError:
        return data.load(bundled, "test")  # small: rendered digits are drawn one by one
