"""Planes of published networks that the paper does not have, for its claims about every network."""

from __future__ import annotations

import dataclasses

from lla.errors import MissingDataError
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.records import Record
from paper_tables.evidence.columns import Place
from paper_tables.exhibits.table1 import cells as table1
from paper_tables.inputs import networks
from paper_tables.inputs.networks import Network
from paper_tables.paper.explosion import MODES, PAPER_METHODS, RECOMMENDED

TABLE = "table1_panel"
MEMBERS = (networks.RESNET20, networks.RESNET44, networks.RESNET56)
ROWS = tuple(member.row for member in MEMBERS)
STATE: networks.State = "pretrained"
IMAGES, POINTS = 64, 9
SKIPPED = "not in this profile: --study computes the panel"
AXES = {
    "uniform": (*PAPER_METHODS, RECOMMENDED),
    "normal": ("4", RECOMMENDED),
    "hessian": PAPER_METHODS,
}
PLACES = tuple(
    Place(mode, axes, method)
    for axes, methods in AXES.items()
    for mode in MODES
    for method in methods
)


def cells(settings: Settings) -> list[Cell]:
    """A cell for each network and plane."""
    return [
        _cell(settings, member, place, seed)
        for member in MEMBERS
        for place in PLACES
        for seed in range(1 if place.axes == "hessian" else settings.profile.planes)
    ]


def _cell(settings: Settings, net: Network, place: Place, seed: int) -> Cell:
    name = "-".join(["panel", net.row, *place.column(STATE).split("/"), str(seed)])
    absent = Cell(TABLE, net.row, place.column(STATE), name, table1.HEIGHT, {}, None, "", stage=2)
    if not settings.profile.study:
        return absent.absent(SKIPPED, ("ratio",))
    chosen = _with_images(settings)
    points = max(POINTS, settings.profile.points)
    try:
        cell = table1.plane_cell(chosen, net, STATE, place, seed, points)
    except MissingDataError as error:
        return absent.absent(error.reason, ("ratio",))
    if cell.reason:
        return absent.absent(cell.reason, ("ratio",))
    return dataclasses.replace(
        cell, table=TABLE, name=name, fidelity="replication", compute=_compute
    )


def _compute(cell: Cell, settings: Settings) -> list[Record]:
    return table1.compute(cell, _with_images(settings))


def _with_images(settings: Settings) -> Settings:
    """The settings with the panel's batch, whatever the profile."""
    profile = dataclasses.replace(settings.profile, images=IMAGES)
    return dataclasses.replace(settings, profile=profile)
