"""Criteria of published networks, random and trained, in both modes.

A network is in the panel if its weights were published with it and the images that it was trained
on can be had. Nothing else decides: neither its criteria nor how well they fit the claims.
"""

from __future__ import annotations

from dataclasses import dataclass

from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.records import Record
from paper_tables.evidence.criteria import MODES
from paper_tables.inputs import known
from paper_tables.inputs.known import Known
from paper_tables.measure import spectra
from paper_tables.measure.checks import check_criteria

TABLE = "panel"
STATES = ("random", "pretrained")
IMAGES, BATCHES, PROBES, STEPS = 64, 3, 1, 100
SKIPPED = "a product of these networks takes seconds: --study computes the panel"


@dataclass(frozen=True)
class Member:
    """A network of the panel.

    Attributes:
        row: of the table.
        model: in `lla.models`.
        seconds: of a product with 64 images, on 2 CPU cores.
    """

    row: str
    model: str
    seconds: float

    def known(self, state: str) -> Known:
        """The network with random or trained weights."""
        return Known(self.model, "cifar10", trained=state == "pretrained")


MEMBERS = (
    Member("ResNet20", "resnet20", 0.25),
    Member("ResNet44", "resnet44", 0.55),
    Member("ResNet56", "resnet56", 0.7),
)


def cells(settings: Settings) -> list[Cell]:
    """A cell for each network, state and mode."""
    return [
        _cell(settings, member, state, mode)
        for member in MEMBERS
        for state in STATES
        for mode in MODES
    ]


def _cell(settings: Settings, member: Member, state: str, mode: str) -> Cell:
    net = member.known(state)
    cell = Cell(
        TABLE, member.row, f"{state}/{mode}", f"{member.row.lower()}-{state}-{mode}",
        spectra.metrics(legacy=False), {}, None, "", stage=2,
    )  # fmt: skip
    if not settings.profile.study:
        return cell.absent(SKIPPED)
    if state == "pretrained" and not known.weights_found(settings, net):
        return cell.absent(f"no weights: put those of {member.model} into weights/ of a data root")
    facts = known.config_of(settings, net, IMAGES)
    if known.fidelity(settings, net) == "substitute":
        return cell.absent("no CIFAR-10: put it into a data root (--data-root or LLA_DATA)")
    config = {
        **facts,
        **spectra.criteria_config(mode, STEPS, PROBES, "linearized"),
        "batches": BATCHES,
        "batch_size": IMAGES,
        "seed": known.SEED,
        "dtype": "float32",
        "init": "torch",
    }
    return Cell(
        cell.table, cell.row, cell.column, cell.name, cell.metrics, config,
        fidelity="replication",
        inputs=f"{net.name}, {facts['weights']}, {BATCHES} x {IMAGES} images of {facts['data']}, "
        f"{PROBES} probe, m {STEPS}",
        compute=_compute,
        stage=2,
        seconds=BATCHES * PROBES * STEPS * member.seconds,
        memory=3 * 2**30,
    )  # fmt: skip


def _compute(cell: Cell, settings: Settings) -> list[Record]:
    member = next(each for each in MEMBERS if each.row == cell.row)
    net = member.known(cell.column.partition("/")[0])
    model, weights = known.loaded(settings, net)
    drawn = known.batches(settings, net, IMAGES, BATCHES)
    found = spectra.measured(settings, model, drawn.pairs, cell.config)
    check_criteria(found)
    return spectra.criteria_records(cell, settings, found, keep=False, **drawn.facts(weights))
