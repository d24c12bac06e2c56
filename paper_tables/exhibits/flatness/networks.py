"""Flatness of the layers of known networks: the last one in closed form, all of small networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from lla.layers.flatness import flatness
from lla.layers.flatness_result import Flatness
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.records import Record
from paper_tables.inputs import known
from paper_tables.inputs.image_sets import Batches
from paper_tables.inputs.known import Known

TABLE = "flatness_networks"
LAST, ALL = "last layer", "all layers"
OF_LAYER = ("kappa", "kappa_diag", "trace", "neuronwise")
SMALL_IMAGES = 64  # of CIFAR-10 and MNIST


@dataclass(frozen=True)
class Case:
    """A network with a layer that the closed form covers.

    Attributes:
        row: its row.
        layer: the last layer before the average, or the classifier.
        network: and its weights and images.
        every: when all layers are measured, too.
    """

    row: str
    layer: str
    network: Known
    every: Literal["never", "real", "always"] = "never"  # "real": only with --real-data


CASES = (
    Case("lenet", "fc3", Known("lenet", "mnist"), "always"),
    Case("resnet20", "layer3.2.conv2", Known("resnet20", "cifar10"), "always"),
    Case("resnet56", "layer3.8.conv2", Known("resnet56", "cifar10"), "real"),
    Case("squeezenet", "classifier.1", Known("squeezenet1_1", "imagenet")),
    Case("mobilenet", "features.18.0", Known("mobilenet_v2", "imagenet", trained=False)),
    Case("resnet18", "layer4.1.conv2", Known("resnet18", "imagenet", trained=False)),
    Case("resnet50", "layer4.2.conv3", Known("resnet50", "imagenet", trained=False)),
)
SECONDS = {"lenet": 1, "resnet20": 8, "resnet56": 50}  # all layers on 64 images


def case(row: str) -> Case:
    """One of the cases, by its row."""
    return next(found for found in CASES if found.row == row)


def cells(settings: Settings) -> list[Cell]:
    """The last layer of every network, and all layers of small ones."""
    found = []
    for each in CASES:
        found.append(_cell(settings, each, LAST))
        if each.every == "always" or (each.every == "real" and settings.profile.runs.real):
            found.append(_cell(settings, each, ALL))
    return found


def config_of(settings: Settings, net: Known) -> dict[str, Any]:
    """Everything that determines a network, its weights and its images."""
    return known.config_of(settings, net, *_size(settings, net))


def batch(settings: Settings, net: Known) -> Batches:
    """The batch of a network."""
    images, side = _size(settings, net)
    return known.batches(settings, net, images, 1, side)


def _size(settings: Settings, net: Known) -> tuple[int, int]:
    """Images and their pixels along a side."""
    of_photographs = settings.profile.criteria
    if net.data == "imagenet":
        return of_photographs.batch_size, of_photographs.side
    return SMALL_IMAGES, 32


def _cell(settings: Settings, each: Case, column: str) -> Cell:
    net, layers = each.network, [each.layer]
    if column == ALL:
        layers = list(known.layers_of(net))
    facts = config_of(settings, net)
    return Cell(
        table=TABLE,
        row=each.row,
        column=column,
        name=f"{each.row}-{column.replace(' ', '-')}",
        metrics=OF_LAYER if column == LAST else tuple(
            f"{metric} {layer}" for layer in layers for metric in OF_LAYER[::2]
        ),
        config={**facts, "layers": layers, "method": "auto", "mode": "eval", "dtype": "float32"},
        fidelity=known.fidelity(settings, net),
        inputs=f"{net.name}, {facts['weights']}, on {facts['images']} x {facts['side']} px of "
        f"{facts['data']}",
        compute=_compute,
        stage=1,
        seconds=SECONDS.get(each.row, 3) if column == ALL else 3,
        memory=2 * 2**30,
    )  # fmt: skip


def _compute(cell: Cell, settings: Settings) -> list[Record]:
    each = case(cell.row)
    model, weights = known.loaded(settings, each.network)
    batches = batch(settings, each.network)
    found = flatness(model, batches.pairs, cell.config["layers"])
    facts = batches.facts(weights)
    if cell.column == LAST:
        layer = found[each.layer]
        note = f"{each.layer}, {layer.method}: {layer.why}"
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
