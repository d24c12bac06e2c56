"""Networks with known weights, measured layer by layer on batches of their images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.records import Record
from paper_tables.exhibits.layerwise.measured import METRICS, curvatures, metric, records_of
from paper_tables.exhibits.layerwise.mlps import TABLE
from paper_tables.inputs import known
from paper_tables.inputs.known import Known

COLUMN = "as it is"
BATCHES = 3  # disjoint; numbers are means over them


@dataclass(frozen=True)
class Case:
    """A network, and what is measured of it.

    Attributes:
        row: of the tables.
        network: and its weights and images.
        images: of a batch.
        k: eigenvectors of each layer, at most its outputs; 0 measures no layers.
        probes: from which the share off the blocks is estimated.
        layers: that are measured; all by default.
        side: of photographs, pixels.
        dtype: of the network.
        seconds: estimates for the layers and for the share, on 2 CPU cores.
        real: measured with --real-data only.
    """

    row: str
    network: Known
    images: int
    k: int
    probes: int
    layers: tuple[str, ...] = ()
    side: int = 32
    dtype: Literal["float32", "float64"] = "float32"
    seconds: tuple[float, float] = (10, 10)
    real: bool = False

    @property
    def type(self) -> torch.dtype:
        """Of the network, for torch."""
        found: torch.dtype = getattr(torch, self.dtype)
        return found


# ResNet20 has 20 layers; these are its first and last ones, and each change of its width
OF_RESNET20 = (
    "conv1", "layer1.0.conv1", "layer1.2.conv2", "layer2.0.conv1", "layer2.2.conv2",
    "layer3.0.conv1", "layer3.2.conv2", "linear",
)  # fmt: skip
CASES = (
    Case("lenet", Known("lenet", "mnist"), 256, 10, 16, dtype="float64", seconds=(30, 10)),
    Case(
        "resnet20", Known("resnet20", "cifar10"), 64, 10, 8, OF_RESNET20, seconds=(400, 120),
        real=True,
    ),
    Case(
        "squeezenet", Known("squeezenet1_1", "imagenet"), 8, 0, 8, side=64, seconds=(0, 60),
        real=True,
    ),
    Case(
        "mobilenet", Known("mobilenet_v2", "imagenet", trained=False), 8, 0, 4, side=64,
        seconds=(0, 200), real=True,
    ),
    Case(
        "resnet18", Known("resnet18", "imagenet", trained=False), 8, 0, 4, side=64,
        seconds=(0, 90), real=True,
    ),
)  # fmt: skip
PROBES, TOLERANCE = 8, 1e-3  # of the distance in Frobenius norm, and of eigenvectors


def wanted(settings: Settings) -> list[Case]:
    """The networks that the profile measures."""
    return [case for case in CASES if settings.profile.runs.real or not case.real]


def case(row: str) -> Case:
    """One of the cases, by its row."""
    return next(found for found in CASES if found.row == row)


def cells(settings: Settings) -> list[Cell]:
    """One cell a network whose layers are measured."""
    return [_cell(settings, each) for each in wanted(settings) if each.k]


def config_of(settings: Settings, each: Case, count: int) -> dict[str, Any]:
    """Everything that determines a network, its weights and its batches."""
    return {
        **known.config_of(settings, each.network, each.images, each.side),
        "batches": count,
        "batch_size": each.images,
        "dtype": each.dtype,
        "mode": "eval",
    }


def _cell(settings: Settings, each: Case) -> Cell:
    net = each.network
    layers = each.layers or tuple(known.layers_of(net))
    facts = config_of(settings, each, BATCHES)
    return Cell(
        table=TABLE,
        row=each.row,
        column=COLUMN,
        name=each.row,
        metrics=tuple(metric(name, layer) for layer in layers for name in METRICS),
        config={
            **facts, "layers": list(layers), "k": each.k, "probes": PROBES, "tol": TOLERANCE,
        },
        fidelity=known.fidelity(settings, net),
        inputs=f"{net.name}, {facts['weights']}, on {BATCHES} x {each.images} images of "
        f"{facts['data']}",
        compute=_compute,
        stage=1,
        seconds=each.seconds[0],
        memory=2 * 2**30,
    )  # fmt: skip


def _compute(cell: Cell, settings: Settings) -> list[Record]:
    each = case(cell.row)
    model, weights = known.loaded(settings, each.network, each.type)
    drawn = known.batches(settings, each.network, each.images, BATCHES, each.side)
    found = [
        curvatures(
            model, known.typed(pair, each.type), each.k, cell.config["layers"],
            probes=PROBES, tol=TOLERANCE,
        )
        for pair in drawn.pairs
    ]  # fmt: skip
    return records_of(cell, settings, found, "batches", drawn.facts(weights))
