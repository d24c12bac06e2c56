"""Criteria of published networks, random and trained, in both modes, and their accuracy.

A network is in the panel if its weights were published and the images that it was trained on can be
had. Nothing else decides: neither its criteria nor how well they fit the claims.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import nn

import lla
from lla import models
from lla.errors import MissingDataError
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.records import Record, Source
from paper_tables.evidence.criteria import MODES
from paper_tables.inputs import known
from paper_tables.inputs.image_sets import Batches
from paper_tables.inputs.known import Known
from paper_tables.measure import spectra
from paper_tables.measure.checks import check_criteria
from paper_tables.measure.shares import percent
from paper_tables.paper.names import display

TABLE = "panel"
STATES = ("random", "pretrained")
PROBES, STEPS = 1, 100
IMAGES = {"cifar10": 64, "imagenet": 16}  # of a batch
BATCHES = {"cifar10": 6, "imagenet": 3}
NEW = "new images"  # the column of trained networks on photographs that are not in ImageNet
SKIPPED = "a product of these networks takes seconds: --study computes the panel"


@dataclass(frozen=True)
class Member:
    """A network of the panel.

    Attributes:
        row: of the table.
        model: in `lla.models`.
        seconds: of a product with a batch, on 2 CPU cores.
        data: what it was trained on.
    """

    row: str
    model: str
    seconds: float
    data: Literal["cifar10", "imagenet"] = "cifar10"

    @property
    def batches(self) -> int:
        """Over which everything is averaged."""
        return BATCHES[self.data]

    @property
    def side(self) -> int:
        """Of its images, pixels."""
        return 32 if self.data == "cifar10" else models.picture_preprocessing(self.model).crop

    def known(self, column: str) -> Known:
        """What a column of the table is computed with; accuracy is that of trained weights."""
        state = column.partition("/")[0]
        data = "ni" if state == NEW else self.data
        return Known(self.model, data, trained=state != "random")


MEMBERS = (
    Member("ResNet20", "resnet20", 0.25),
    Member("ResNet44", "resnet44", 0.55),
    Member("ResNet56", "resnet56", 0.7),
    Member("SqueezeNet 1.1", "squeezenet1_1", 1.2, "imagenet"),
    Member("EfficientNet-Lite0", "efficientnet_lite0", 3.0, "imagenet"),
    Member("EfficientNet-Lite1", "efficientnet_lite1", 5.0, "imagenet"),
    Member("EfficientNet-Lite2", "efficientnet_lite2", 7.0, "imagenet"),
)


def cells(settings: Settings) -> list[Cell]:
    """All cells, network after network."""
    return [cell for member in MEMBERS for cell in _of_member(settings, member)]


def _of_member(settings: Settings, member: Member) -> Iterator[Cell]:
    for state in STATES:
        for mode in MODES:
            yield _spectrum_cell(settings, member, f"{state}/{mode}")
    yield _accuracy_cell(settings, member, "accuracy")
    if member.data == "imagenet":
        yield _spectrum_cell(settings, member, f"{NEW}/eval")
        yield _accuracy_cell(settings, member, f"{NEW}/accuracy")


def _spectrum_cell(settings: Settings, member: Member, column: str) -> Cell:
    """Criteria; the column says of which weights, or on new images, and in which mode."""
    cell = _begun(settings, member, column, spectra.metrics(legacy=False))
    if cell.reason:
        return cell
    mode = column.partition("/")[2]
    criteria = spectra.criteria_config(mode, STEPS, PROBES, "linearized")
    return dataclasses.replace(
        cell,
        config={**cell.config, **criteria, "seed": known.SEED, "dtype": "float32"},
        inputs=f"{cell.inputs}, {PROBES} probe, m {STEPS}",
        compute=_compute_spectrum,
        seconds=member.batches * PROBES * STEPS * member.seconds,
    )


def _accuracy_cell(settings: Settings, member: Member, column: str) -> Cell:
    """The share of the images of the spectra that the trained network recognises."""
    cell = _begun(settings, member, column, ("accuracy",))
    if cell.reason:
        return cell
    return dataclasses.replace(
        cell,
        config={**cell.config, "mode": "eval"},
        compute=_compute_accuracy,
        seconds=2 + member.batches * member.seconds,
    )


def _begun(settings: Settings, member: Member, column: str, metrics: tuple[str, ...]) -> Cell:
    """A cell with what determines its network and images, or with why it cannot run."""
    net = member.known(column)
    name = f"{member.row}-{column}".lower().replace("/", "-").replace(" ", "-")
    cell = Cell(TABLE, member.row, column, name, metrics, {}, None, "", stage=2, memory=3 * 2**30)
    if not settings.profile.study:
        return cell.absent(SKIPPED)
    if net.trained and not known.weights_found(settings, net):
        found = models.find_pretrained(net.name, settings.data_root)
        return cell.absent(f"no weights: {found.advice}")
    try:
        facts = known.config_of(settings, net, IMAGES[member.data], member.side)
    except MissingDataError as error:
        return cell.absent(error.reason)
    if net.data != "ni" and known.fidelity(settings, net) == "substitute":
        data = display(member.data)
        return cell.absent(f"no {data}: put it into a data root (--data-root or LLA_DATA)")
    images, weights = facts["images"], facts["weights"]
    return dataclasses.replace(
        cell,
        config={**facts, "batches": member.batches, "batch_size": images, "init": "torch"},
        fidelity="replication",
        inputs=f"{net.name}, {weights}, {member.batches} x {images} images of {facts['data']}",
    )


# --- computing


def _loaded(cell: Cell, settings: Settings) -> tuple[nn.Module, Source, Batches]:
    """The network of a cell, what its weights are, and its batches."""
    member = next(each for each in MEMBERS if each.row == cell.row)
    net = member.known(cell.column)
    drawn = known.batches(settings, net, cell.config["images"], member.batches, member.side)
    return *known.loaded(settings, net), drawn


def _compute_spectrum(cell: Cell, settings: Settings) -> list[Record]:
    model, weights, drawn = _loaded(cell, settings)
    found = spectra.measured(settings, model, drawn.pairs, cell.config)
    check_criteria(found)
    return spectra.criteria_records(cell, settings, found, keep=False, **drawn.facts(weights))


def _compute_accuracy(cell: Cell, settings: Settings) -> list[Record]:
    model, weights, drawn = _loaded(cell, settings)
    share = lla.landscape.accuracy(lla.Problem(model, drawn.pairs, mode="eval"))
    seen = percent(share, cell.config["batches"] * cell.config["images"])
    return [cell.estimated("accuracy", seen, stderr_kind="examples", **drawn.facts(weights))]
