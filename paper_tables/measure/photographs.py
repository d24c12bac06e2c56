"""The criteria of the networks that see photographs: cells of Tables 2 and 4.

Each network has a batch of the profile's size, or several, drawn with a seed; which pictures they
hold stands in a file that the record of the loss names.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import pandas as pd
from torch import nn

import lla
from lla.data import PictureBatches, PictureSet
from lla.errors import MissingDataError
from lla.files import sha256_of_bytes
from lla.hessian.products.routes import RouteName
from lla.report.text import csv_table
from paper_tables.engine import store
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.fidelity import cell_fidelity
from paper_tables.engine.profiles import PROFILES
from paper_tables.engine.records import Record, Source
from paper_tables.engine.session import session_cached
from paper_tables.inputs import image_sets, networks
from paper_tables.inputs.networks import Loaded, Network, State
from paper_tables.measure import spectra
from paper_tables.measure.checks import check_criteria, check_trace
from paper_tables.measure.shares import percent

Photographs = Literal["imagenet", "ni"]
MODES = ("train", "eval")
DTYPE = "float32"
LARGE = 60.0  # millions of parameters: from here on a short profile computes only one mode


class Case(NamedTuple):
    """What the criteria are measured on."""

    net: Network
    state: State  # of its weights
    mode: str = "eval"  # or "train"
    photographs: Photographs = "imagenet"  # the input
    init: str = "torch"  # how random weights are drawn
    legacy: bool = False  # imitate the authors' public code


@dataclass(frozen=True)
class Cost:
    """What the criteria of a network cost, and the plan by which they are computed."""

    seconds: float  # per product and image of 224 pixels, on 2 CPU cores
    activations: int  # bytes that a product holds per image of 224 pixels
    route: RouteName = "retained"  # fixed: routes round differently
    micro_batch: int | None = None  # images that a product takes in eval mode; None: all


LARGE_BASIS = 8 * 2**30  # bytes: Lanczos vectors that would take more are kept in bfloat16

# Without micro-batches and that, ViT-B's graph of 64 pictures and 100 vectors would take 60 GiB.
COSTS = {
    "resnet18": Cost(0.25, 110 * 2**20),
    "resnet50": Cost(0.7, 400 * 2**20, "fresh", 16),
    "alexnet": Cost(0.15, 30 * 2**20),
    "squeezenet": Cost(0.1, 45 * 2**20),
    # its double backward goes through the channels of depthwise convolutions one by one
    "mobilenet": Cost(0.2, 160 * 2**20, "linearized"),
    "vit": Cost(0.2, 120 * 2**20),
    "vit_base_patch16_224": Cost(2.5, 600 * 2**20, "fresh", 4),
}


def spectrum_cell(
    settings: Settings, table: str, column: str, case: Case, accuracy: bool = False
) -> Cell:
    """The criteria of one network.

    Args:
        settings: of the session.
        table: where the cell stands.
        column: of the table.
        case: what is measured.
        accuracy: also record the share of these pictures that the network recognises.
    """
    net, chosen, cost = case.net, settings.profile.criteria, _cost(case.net)
    mode = [] if case.mode in column else [case.mode]
    init = [case.init] if case.state == "random" else []
    name = [net.row, *column.split("/"), *mode, *init, "legacy" if case.legacy else "plain"]
    wanted = (("accuracy",) if accuracy else ()) + spectra.metrics(case.legacy)
    begun = _begun(settings, case, table, column, "-".join(name), wanted)
    if begun.reason:
        return begun
    if net.millions >= LARGE and case.mode == "train" and not chosen.variants:
        profile = settings.profile.name
        return _absent(begun, f"left out of profile {profile} for its time: --variants computes it")
    config = {
        **begun.config,
        **_criteria_config(settings, case),
        "init": case.init,
        "scope": "batches",
        "loss": "cross_entropy",
    }
    products = config["batches"] * chosen.probes * chosen.steps
    area = (chosen.side / 224) ** 2
    return dataclasses.replace(
        begun,
        config=config,
        inputs=f"{begun.inputs}, {chosen.probes} probes, m {chosen.steps}",
        compute=_compute_spectrum,
        seconds=2 + products * config["batch_size"] * cost.seconds * area,
        memory=_memory(net, cost, config["batch_size"], area, chosen.steps),
    )


def accuracy_cell(settings: Settings, net: Network) -> Cell:
    """The share of the pictures of Table 2's batches that a pre-trained network recognises."""
    case, name = Case(net, "pretrained"), f"{net.row}-accuracy"
    begun = _begun(settings, case, "table2", "accuracy", name, ("accuracy",))
    if begun.reason:
        return begun
    return dataclasses.replace(
        begun,
        config={**begun.config, "mode": "mean"},
        compute=_compute_accuracy,
        seconds=2 + begun.config["batches"] * begun.config["batch_size"] * _cost(net).seconds / 2,
        memory=2**30,
    )


def _begun(
    settings: Settings, case: Case, table: str, column: str, name: str, metrics: tuple[str, ...]
) -> Cell:
    """A cell with its inputs, or with the reason why it cannot be computed."""
    net, chosen = case.net, settings.profile.criteria
    weights = networks.origin(settings, net, case.state)
    begun = Cell(table, net.row, column, name, metrics, {}, None, "", stage=2)
    if weights.fidelity is None:
        return _absent(begun, weights.note)
    try:
        pictures = _pictures(settings, case.photographs)
    except MissingDataError as error:
        return _absent(begun, error.reason)
    size, count = _amount(settings, pictures)
    config = {
        "model": net.name,
        "options": networks.options(net, chosen.side),
        "state": case.state,
        **weights.config,
        **image_sets.config_of(pictures),
        "side": chosen.side,
        "batches": count,
        "batch_size": size,
        "seed": settings.profile.seed,
        "dtype": DTYPE,
    }
    paper = PROFILES["paper"].criteria
    as_large = (size, chosen.side, chosen.steps) == (paper.batch_size, paper.side, paper.steps)
    return dataclasses.replace(
        begun,
        config=config,
        fidelity=cell_fidelity(
            weights.fidelity, pictures.fidelity, whole=as_large and chosen.probes >= paper.probes
        ),
        inputs=f"{weights.note}; {count} x {size} x {chosen.side} px of {pictures.name}",
        shared=weights.shared,
    )


def _absent(cell: Cell, reason: str) -> Cell:
    """The cell that cannot run, with the reason, for the metrics that the paper prints."""
    printed = ("accuracy", "kh1", "kh05", "re")
    return cell.absent(reason, tuple(metric for metric in cell.metrics if metric in printed))


def _pictures(settings: Settings, photographs: Photographs) -> PictureSet:
    return (networks.new_images if photographs == "ni" else networks.pictures)(settings)


def _amount(settings: Settings, pictures: PictureSet) -> tuple[int, int]:
    """Pictures a batch, and batches, if there are as many."""
    chosen = settings.profile.criteria
    size = min(chosen.batch_size, len(pictures))
    return size, min(chosen.batches, len(pictures) // size)


def _criteria_config(settings: Settings, case: Case) -> dict[str, Any]:
    chosen, cost = settings.profile.criteria, _cost(case.net)
    return {
        **spectra.criteria_config(case.mode, chosen.steps, chosen.probes, cost.route, case.legacy),
        "micro_batch": cost.micro_batch if case.mode == "eval" else None,
        "basis_dtype": _basis_dtype(case.net, chosen.steps),
    }


def _basis_dtype(net: Network, steps: int) -> str | None:
    """The type of the Lanczos vectors; None is the network's."""
    return "bfloat16" if 4e6 * net.millions * steps > LARGE_BASIS else None


def _cost(net: Network) -> Cost:
    return COSTS.get(net.name, COSTS[net.row])


def _memory(net: Network, cost: Cost, images: int, area: float, steps: int) -> int:
    """Bytes: the graph, the Lanczos vectors, and copies of the weights."""
    width = 2 if _basis_dtype(net, steps) else 4
    weights = int(net.millions * 1e6)
    graph = int(cost.activations * area) * min(images, cost.micro_batch or images)
    return 2**29 + graph + weights * (steps * width + 32)


# --- computing


def _compute_spectrum(cell: Cell, settings: Settings) -> list[Record]:
    config = cell.config
    case = Case(
        networks.network(settings.profile, cell.row),
        config["state"],
        config["mode"],
        "ni" if config["data"] == "ni" else "imagenet",
        config["init"],
        config["legacy"],
    )
    try:
        loaded = _loaded(settings, case)
    except MissingDataError:  # a failed download: its message names folders of this machine
        return cell.absent(networks.NO_DOWNLOAD).not_run()
    alike = networks.modes_alike(loaded.model)
    if alike:
        case = case._replace(mode="eval")
    criteria = _criteria(settings, case)
    check_criteria(criteria)
    if _piecewise_linear(case, loaded.model):
        check_trace(criteria.spectra)
    batches = _batches(settings, case.photographs, loaded.name)
    notes = ["both modes are one function, computed once"] if alike else []
    if config["m"] != PROFILES["paper"].criteria.steps:
        notes.append(f"K_H05 depends on m, here {config['m']}: it is not judged")
    facts = {**_facts(batches, loaded), "note": "; ".join(notes) or None}
    keep = not config["legacy"] and not (alike and config["mode"] == "train")
    found = spectra.criteria_records(cell, settings, criteria, keep, **facts)
    found[-1] = dataclasses.replace(found[-1], artifact=_save_listing(batches, settings))
    if "accuracy" in cell.metrics:
        found.insert(0, _accuracy(cell, loaded, batches, (case.mode,)))
    return found


@session_cached(size=32)
def _criteria(settings: Settings, case: Case) -> lla.Criteria:
    """The criteria; computed once if two cells need them, for both modes or for Tables 2 and 4."""
    loaded = _loaded(settings, case)
    pairs = _batches(settings, case.photographs, loaded.name).pairs
    config = {**_criteria_config(settings, case), "seed": settings.profile.seed, "dtype": DTYPE}
    return spectra.measured(settings, loaded.model, pairs, config)


def _loaded(settings: Settings, case: Case) -> Loaded:
    side = settings.profile.criteria.side
    return networks.load(settings, case.net, case.state, side, case.init)


@session_cached(size=2)
def _batches(settings: Settings, photographs: Photographs, architecture: str) -> PictureBatches:
    """The batches of a network, preprocessed as its weights expect."""
    pictures, profile = _pictures(settings, photographs), settings.profile
    amount = _amount(settings, pictures)
    return image_sets.draw_pictures(
        settings, architecture, pictures, profile.criteria.side, *amount, profile.seed
    )


def _piecewise_linear(case: Case, model: nn.Module) -> bool:
    """Whether the trace of the Hessian cannot be negative: no attention, no batch statistics."""
    batchnorm = any(isinstance(module, networks.BATCHNORM) for module in model.modules())
    return case.net.row != "vit" and (case.mode == "eval" or not batchnorm)


def _compute_accuracy(cell: Cell, settings: Settings) -> list[Record]:
    case = Case(networks.network(settings.profile, cell.row), "pretrained")
    try:
        loaded = _loaded(settings, case)
    except MissingDataError:
        return _absent(cell, networks.NO_DOWNLOAD).not_run()
    batches = _batches(settings, "imagenet", loaded.name)
    return [_accuracy(cell, loaded, batches, MODES)]


def _accuracy(
    cell: Cell, loaded: Loaded, batches: PictureBatches, modes: tuple[str, ...]
) -> Record:
    """The share of pictures recognised, the mean of some modes, with its binomial error."""
    problems = (lla.Problem(loaded.model, batches.pairs, mode=mode) for mode in modes)  # type: ignore[arg-type]
    shares = list(map(lla.landscape.accuracy, problems))
    note = "mean of train and eval mode: " + " and ".join(f"{100 * s:.1f} %" for s in shares)
    return cell.estimated(
        "accuracy",
        percent(sum(shares) / len(shares), len(batches.files)),
        stderr_kind="examples",
        note=note if len(shares) > 1 else None,
        **_facts(batches, loaded),
    )


def _facts(batches: PictureBatches, loaded: Loaded) -> dict[str, Any]:
    return image_sets.of_pictures(batches).facts(loaded.weights)


def _save_listing(batches: PictureBatches, settings: Settings) -> Source:
    """Save the list of the pictures in the batches, one line each."""
    labels = [(i, label) for i, (_, y) in enumerate(batches.pairs) for label in y.tolist()]
    listing = pd.DataFrame(labels, columns=["batch", "class_index"])
    listing.insert(1, "file", batches.files)
    listing["sha256"] = batches.files_sha256
    content = csv_table(listing)
    name = f"{batches.pictures.name}-{sha256_of_bytes(content)[:12]}.csv"
    return store.save_artifact(content.encode(), f"batches/{name}", settings.work)
