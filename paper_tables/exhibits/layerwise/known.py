"""Networks with known weights, measured layer by layer on batches of their images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lla import data, models
from lla.checkpoints import weights_sha256
from lla.errors import MissingDataError
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.fidelity import cell_fidelity
from paper_tables.engine.records import Record, Source
from paper_tables.engine.session import session_cached
from paper_tables.exhibits.layerwise.measured import (
    METRICS,
    curvatures,
    layers_of,
    metric,
    records_of,
)
from paper_tables.exhibits.layerwise.mlps import TABLE
from paper_tables.inputs import image_sets, networks
from paper_tables.inputs.image_sets import Batches

COLUMN = "as it is"
BATCHES = 3  # disjoint; numbers are means over them
SEED = 0  # of random weights and the choice of images
# data -> names in the registry, the most faithful first; the last one is bundled
SETS = {"cifar10": ("cifar10", "rendered-digits"), "mnist": ("mnist", "digits")}


@dataclass(frozen=True)
class Known:
    """A network of `lla.models`.

    Attributes:
        row: of the tables.
        name: in `lla.models`.
        data: what it sees.
        images: of a batch.
        k: eigenvectors of each layer, at most its outputs; 0 measures no layers.
        probes: from which the share off the blocks is estimated.
        layers: that are measured; all by default.
        trained: take its weights where they are found.
        side: of photographs, pixels.
        seconds: estimates for the layers and for the share, on 2 CPU cores.
        real: measured with --real-data only.
    """

    row: str
    name: str
    data: Literal["mnist", "cifar10", "imagenet"]
    images: int
    k: int
    probes: int
    layers: tuple[str, ...] = ()
    trained: bool = True
    side: int = 32
    dtype: Literal["float32", "float64"] = "float32"
    seconds: tuple[float, float] = (10, 10)
    real: bool = False


# ResNet20 has 20 layers; these are its first and last ones, and each change of its width
OF_RESNET20 = (
    "conv1", "layer1.0.conv1", "layer1.2.conv2", "layer2.0.conv1", "layer2.2.conv2",
    "layer3.0.conv1", "layer3.2.conv2", "linear",
)  # fmt: skip
NETWORKS = (
    Known("lenet", "lenet", "mnist", 256, 10, 16, dtype="float64", seconds=(30, 10)),
    Known(
        "resnet20", "resnet20", "cifar10", 64, 10, 8, OF_RESNET20, seconds=(400, 120), real=True
    ),
    Known(
        "squeezenet", "squeezenet1_1", "imagenet", 8, 0, 8, side=64, seconds=(0, 60), real=True
    ),
    Known(
        "mobilenet", "mobilenet_v2", "imagenet", 8, 0, 4, trained=False, side=64,
        seconds=(0, 200), real=True,
    ),
    Known(
        "resnet18", "resnet18", "imagenet", 8, 0, 4, trained=False, side=64, seconds=(0, 90),
        real=True,
    ),
)  # fmt: skip
PROBES, TOLERANCE = 8, 1e-3  # of the distance in Frobenius norm, and of eigenvectors


def wanted(settings: Settings) -> list[Known]:
    """The networks that the profile measures."""
    return [net for net in NETWORKS if settings.profile.runs.real or not net.real]


def network(row: str) -> Known:
    """One of the networks, by its row."""
    return next(net for net in NETWORKS if net.row == row)


def cells(settings: Settings) -> list[Cell]:
    """One cell a network whose layers are measured."""
    return [_cell(settings, net) for net in wanted(settings) if net.k]


def _cell(settings: Settings, net: Known) -> Cell:
    layers = net.layers or tuple(layers_of(models.build(net.name, 10, SEED)))
    facts = config_of(settings, net, BATCHES)
    return Cell(
        table=TABLE,
        row=net.row,
        column=COLUMN,
        name=net.row,
        metrics=tuple(metric(name, layer) for layer in layers for name in METRICS),
        config={
            **facts, "layers": list(layers), "k": net.k, "probes": PROBES, "tol": TOLERANCE,
        },
        fidelity=fidelity(settings, net),
        inputs=f"{net.name}, {facts['weights']}, on {BATCHES} x {net.images} images of "
        f"{facts['data']}",
        compute=_compute,
        stage=1,
        seconds=net.seconds[0],
        memory=2 * 2**30,
    )  # fmt: skip


def _compute(cell: Cell, settings: Settings) -> list[Record]:
    net = network(cell.row)
    model, weights = loaded(settings, net)
    drawn = batches(settings, net, BATCHES)
    found = [
        curvatures(
            model, typed(net, pair), net.k, cell.config["layers"], probes=PROBES, tol=TOLERANCE
        )
        for pair in drawn.pairs
    ]
    return records_of(cell, settings, found, "batches", drawn.facts(weights))


def typed(net: Known, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """A batch in the type of a network."""
    return pair[0].to(getattr(torch, net.dtype)), pair[1]


@session_cached(size=1)
def loaded(settings: Settings, net: Known) -> tuple[nn.Module, Source]:
    """A network in its type and eval mode, on the session's device, and what its weights are."""
    if weights_found(settings, net):
        trained = models.pretrained(net.name, root=settings.data_root)
        model, source = trained.model, Source(trained.file, trained.sha256)
    else:
        model = models.build(net.name, 1000 if net.data == "imagenet" else 10, SEED)
        source = Source(f"{net.name}, torch init, seed {SEED}", weights_sha256(model))
    return model.to(settings.device).eval().to(getattr(torch, net.dtype)), source


def weights_found(settings: Settings, net: Known) -> bool:
    """Whether trained weights are wanted and found."""
    return net.trained and models.find_pretrained(net.name, settings.data_root).available


def config_of(settings: Settings, net: Known, count: int) -> dict[str, Any]:
    """Everything that determines a network, its weights and its batches."""
    file = models.find_pretrained(net.name, settings.data_root).file if net.trained else None
    return {
        "model": net.name,
        "weights": file if weights_found(settings, net) else f"random, seed {SEED}",
        **image_sets.config_of(_images(settings, net)),
        "images": net.images,
        "batches": count,
        "batch_size": net.images,
        "side": net.side,
        "image_seed": SEED,
        "dtype": net.dtype,
        "mode": "eval",
    }


def fidelity(settings: Settings, net: Known) -> str:
    """How faithful weights and images are; random weights stand in for trained ones."""
    weights: str | None = "paper"
    if net.trained:
        found = models.find_pretrained(net.name, settings.data_root)
        weights = (found.fidelity or "substitute") if found.available else "substitute"
    return cell_fidelity(weights, _images(settings, net).fidelity, whole=False)


@session_cached(size=1)
def batches(settings: Settings, net: Known, count: int) -> Batches:
    """Disjoint batches of a network, preprocessed as its weights expect."""
    found = _images(settings, net)
    if isinstance(found, data.PictureSet):
        drawn = image_sets.draw_pictures(
            settings, net.name, found, net.side, net.images, count, SEED
        )
        return image_sets.of_pictures(drawn)
    return image_sets.draw(settings, net.name, found, net.images, count, SEED)


def _images(settings: Settings, net: Known) -> data.ImageSet | data.PictureSet:
    return networks.pictures(settings) if net.data == "imagenet" else _set(settings, net.data)


@session_cached()
def _set(settings: Settings, name: str) -> data.ImageSet:
    """The training images of a set, or those of a bundled one that stand in for them."""
    first, bundled = SETS[name]
    try:
        return data.load(first, "train", settings.data_root, download=settings.download)
    except MissingDataError:
        return data.load(bundled, "train")
