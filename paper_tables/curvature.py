"""The criteria of the networks that see photographs: cells of Tables 2 and 4.

Each network has a batch of the profile's size, or several, drawn with a seed; which pictures they
hold stands in a file that the record of the loss names.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import io
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

import lla
from lla import data, models, training
from lla.data import PictureBatches, PictureSet
from lla.errors import MissingDataError
from lla.hessian.products.routes import RouteName
from lla.records import Record, Source
from paper_tables import networks, store
from paper_tables.cells import Cell, Settings, least_faithful
from paper_tables.checks import check_criteria, check_trace
from paper_tables.networks import Loaded, Network, State
from paper_tables.profiles import PROFILES, Pictures
from paper_tables.spectra import criteria_records, metrics

__all__ = ["Photographs", "accuracy_cell", "spectrum_cell"]

Photographs = Literal["imagenet", "ni"]
MODES = ("train", "eval")
DTYPE = "float32"
LARGE = 60.0  # millions of parameters, from which on a short profile computes one mode only
NO_DOWNLOAD = "no weights: the download failed"


@dataclass(frozen=True)
class Cost:
    """What the criteria of a network take, and by which plan they are computed."""

    seconds: float  # of a product, an image of 224 pixels, on 2 CPU cores
    activations: int  # bytes that a product holds, an image of 224 pixels
    route: RouteName = "retained"  # fixed: routes round differently
    micro_batch: int | None = None  # images of a product in eval mode; None: all
    basis_dtype: str | None = None  # of the Lanczos vectors; None: the network's


# ViT-B's graph of 64 pictures and 100 vectors would take 60 GiB.
COSTS = {
    "resnet18": Cost(0.25, 110 * 2**20),
    "resnet50": Cost(0.7, 400 * 2**20, "fresh", 16),
    "alexnet": Cost(0.15, 30 * 2**20),
    "squeezenet": Cost(0.1, 45 * 2**20),
    # its double backward goes through the channels of depthwise convolutions one by one
    "mobilenet": Cost(0.2, 160 * 2**20, "linearized"),
    "vit_tiny_patch16_224": Cost(0.2, 120 * 2**20),
    "vit_base_patch16_224": Cost(2.5, 600 * 2**20, "fresh", 4, "bfloat16"),
}


def spectrum_cell(
    settings: Settings,
    table: str,
    column: str,
    net: Network,
    state: State,
    mode: str,
    photographs: Photographs = "imagenet",
    *,
    init: str = "torch",
    legacy: bool = False,
    accuracy: bool = False,
) -> Cell:
    """The criteria of one network.

    Args:
        settings: of the session.
        table: where the cell stands.
        column: of the table.
        net: the network.
        state: its weights.
        mode: "train" or "eval".
        photographs: what it sees.
        init: how random weights are drawn.
        legacy: imitate the authors' public code.
        accuracy: the share of the same pictures that it recognises as well.
    """
    variant = f"{init}-{'legacy' if legacy else 'plain'}" if state == "random" else (
        "legacy" if legacy else "plain"
    )  # fmt: skip
    name = "-".join([net.row, *column.split("/"), *([mode] if mode not in column else []), variant])
    wanted = (("accuracy",) if accuracy else ()) + metrics(legacy)
    begun = _begun(settings, table, column, net, state, photographs, name, wanted)
    if begun.reason:
        return begun
    chosen, cost = settings.profile.criteria, _cost(net)
    if net.millions >= LARGE and mode == "train" and not chosen.variants:
        profile = settings.profile.name
        return _not_run(
            begun, f"left out of profile {profile} for its time: --variants computes it"
        )
    config = {
        **begun.config,
        "mode": mode,
        "init": init,
        "m": chosen.steps,
        "probes": chosen.probes,
        "legacy": legacy,
        "readings": ["product"] if legacy else ["product", "density"],
        "route": cost.route,
        "micro_batch": cost.micro_batch if mode == "eval" else None,
        "basis_dtype": cost.basis_dtype,
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
    name = f"{net.row}-accuracy"
    begun = _begun(
        settings, "table2", "accuracy", net, "pretrained", "imagenet", name, ("accuracy",)
    )
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
    settings: Settings,
    table: str,
    column: str,
    net: Network,
    state: State,
    photographs: Photographs,
    name: str,
    wanted: tuple[str, ...],
) -> Cell:
    """A cell that knows what it is computed on, or why it cannot be."""
    weights = networks.origin(settings, net, state)
    reason = weights.note if weights.fidelity is None else None
    try:
        pictures = _pictures(settings, photographs)
    except MissingDataError as error:  # what follows names folders of this machine
        reason = reason or str(error).partition("; looked in")[0]
    begun = Cell(table, net.row, column, name, wanted, {}, None, "", stage=2)
    if reason:
        return _not_run(begun, reason)
    chosen = settings.profile.criteria
    size = min(chosen.batch_size, len(pictures))
    config: dict[str, Any] = {
        "model": net.name,
        "options": networks.options(net, chosen.side),
        "state": state,
        **weights.config,
        "data": pictures.name,
        "split": pictures.split,
        "data_sha256": networks.listing(pictures),
        "side": chosen.side,
        "batches": min(chosen.batches, len(pictures) // size),
        "batch_size": size,
        "seed": settings.profile.seed,
        "dtype": DTYPE,
    }
    return dataclasses.replace(
        begun,
        config=config,
        fidelity=_fidelity(weights.fidelity, pictures, chosen, size),
        inputs=f"{weights.note}; {config['batches']} x {size} x {chosen.side} px of "
        f"{pictures.name}",
        shared=weights.shared,
    )


def _not_run(cell: Cell, reason: str) -> Cell:
    """A cell of which the record says why it has no values, of those that the paper has."""
    return dataclasses.replace(
        cell,
        metrics=tuple(metric for metric in cell.metrics if metric in _PRINTED),
        config={"row": cell.row, "column": cell.column},
        fidelity=None,
        inputs="",
        reason=reason,
        compute=None,
    )


_PRINTED = ("accuracy", "kh1", "kh05", "re")  # what the paper has a value of


def _pictures(settings: Settings, photographs: Photographs) -> PictureSet:
    if photographs == "ni":
        return networks.new_images(settings)
    return networks.pictures(settings)


def _fidelity(weights: str | None, pictures: PictureSet, chosen: Pictures, size: int) -> str:
    """The least faithful of weights, pictures, and size: the paper has one batch of 64."""
    paper = PROFILES["paper"].criteria
    as_large = (size, chosen.side, chosen.steps) == (paper.batch_size, paper.side, paper.steps)
    amount = "paper" if as_large and chosen.probes >= paper.probes else "reduced"
    return least_faithful((weights, pictures.fidelity, amount))


def _cost(net: Network) -> Cost:
    return COSTS[net.name if net.row == "vit" else net.row]


def _memory(net: Network, cost: Cost, images: int, area: float, steps: int) -> int:
    """Bytes: the graph, the Lanczos vectors, and copies of the weights."""
    width = 2 if cost.basis_dtype else 4
    weights = int(net.millions * 1e6)
    graph = int(cost.activations * area) * min(images, cost.micro_batch or images)
    return 2**29 + graph + weights * (steps * width + 32)


# --- computing


def _compute_spectrum(cell: Cell, settings: Settings) -> list[Record]:
    config = cell.config
    net = networks.network(settings.profile, cell.row)
    try:
        loaded = _loaded(settings, net, config["state"], config["init"])
    except MissingDataError:  # it was to be downloaded; its message names folders of this machine
        return _not_run(cell, NO_DOWNLOAD).not_run()
    alike = networks.modes_alike(loaded.model)
    mode = "eval" if alike else config["mode"]
    photographs: Photographs = "ni" if config["data"] == "ni" else "imagenet"
    criteria = _criteria(
        settings, net, config["state"], config["init"], mode, config["legacy"], photographs
    )
    check_criteria(criteria)
    if _piecewise_linear(net, loaded.model, mode):
        check_trace(criteria.spectra)
    batches = _batches(settings, photographs, loaded.name)
    notes = []
    if alike:
        notes.append("both modes are one function, computed once")
    if config["m"] != PROFILES["paper"].criteria.steps:
        notes.append(f"K_H05 depends on m, here {config['m']}: it is not judged")
    facts = {**_facts(batches, loaded), "note": "; ".join(notes) or None}
    keep = not config["legacy"] and not (alike and config["mode"] == "train")
    found = criteria_records(cell, settings, criteria, keep, **facts)
    found[-1] = dataclasses.replace(found[-1], artifact=_save_listing(batches, settings))
    if "accuracy" in cell.metrics:
        found.insert(0, _accuracy(cell, loaded, batches, (mode,)))
    return found


@functools.lru_cache(maxsize=32)
def _criteria(
    settings: Settings,
    net: Network,
    state: State,
    init: str,
    mode: str,
    legacy: bool,
    photographs: Photographs,
) -> lla.Criteria:
    """Computed once for what two cells have in common: both modes, or Tables 2 and 4."""
    loaded = _loaded(settings, net, state, init)
    chosen, cost = settings.profile.criteria, _cost(net)
    return lla.criteria(
        loaded.model,
        _batches(settings, photographs, loaded.name).pairs,
        mode=mode,  # type: ignore[arg-type]
        probes=chosen.probes,
        steps=chosen.steps,
        seed=settings.profile.seed,
        legacy=legacy,
        route=cost.route,
        micro_batch=cost.micro_batch if mode == "eval" else None,
        memory=lla.Memory(
            basis_dtype=getattr(torch, cost.basis_dtype) if cost.basis_dtype else None
        ),
        progress=settings.progress,
    )


def _loaded(settings: Settings, net: Network, state: State, init: str) -> Loaded:
    pixels = settings.profile.criteria.side
    if init == "torch" or state != "random":
        return networks.load(settings, net, state, pixels)
    chosen = networks.options(net, pixels)
    model = models.build(net.name, 1000, networks.SEED, init, **chosen)  # type: ignore[arg-type]
    source = Source(
        f"{net.name}, {init} init, seed {networks.SEED}", training.weights_sha256(model)
    )
    return Loaded(model.to(settings.device), source, net.name)


@functools.lru_cache(maxsize=2)
def _batches(settings: Settings, photographs: Photographs, architecture: str) -> PictureBatches:
    """The batches of a network, preprocessed as its weights expect."""
    chosen, pictures = settings.profile.criteria, _pictures(settings, photographs)
    size = min(chosen.batch_size, len(pictures))
    return data.picture_batches(
        pictures,
        models.picture_preprocessing(architecture, chosen.side),
        size,
        count=min(chosen.batches, len(pictures) // size),
        seed=settings.profile.seed,
        device=settings.device,
    )


def _piecewise_linear(net: Network, model: nn.Module, mode: str) -> bool:
    """Whether the trace of the Hessian cannot be negative: no attention, no batch statistics."""
    batchnorm = any(isinstance(module, networks.BATCHNORM) for module in model.modules())
    return net.row != "vit" and (mode == "eval" or not batchnorm)


def _compute_accuracy(cell: Cell, settings: Settings) -> list[Record]:
    net = networks.network(settings.profile, cell.row)
    try:
        loaded = _loaded(settings, net, "pretrained", "torch")
    except MissingDataError:
        return _not_run(cell, NO_DOWNLOAD).not_run()
    batches = _batches(settings, "imagenet", loaded.name)
    return [_accuracy(cell, loaded, batches, MODES)]


def _accuracy(
    cell: Cell, loaded: Loaded, batches: PictureBatches, modes: tuple[str, ...]
) -> Record:
    """The share of pictures recognised, the mean of some modes, with its binomial error."""
    shares = []
    for mode in modes:
        problem = lla.Problem(loaded.model, batches.pairs, mode=mode)  # type: ignore[arg-type]
        shares.append(lla.landscape.accuracy(problem))
    share = sum(shares) / len(shares)
    n = len(batches.files)
    note = "mean of train and eval mode: " + " and ".join(f"{100 * s:.1f} %" for s in shares)
    return cell.record(
        "accuracy",
        100 * share,
        100 * math.sqrt(share * (1 - share) / n),
        n=n,
        stderr_kind="examples",
        **{**_facts(batches, loaded), "note": note if len(shares) > 1 else None},
    )


def _facts(batches: PictureBatches, loaded: Loaded) -> dict[str, Any]:
    return {
        "data": Source(batches.pictures.name, networks.listing(batches.pictures)),
        "batch_sha256": batches.sha256,
        "weights": loaded.weights,
    }


def _save_listing(batches: PictureBatches, settings: Settings) -> Source:
    """Which pictures the batches hold, one line each."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("batch", "file", "class_index", "sha256"))
    files = zip(batches.files, batches.files_sha256, strict=True)
    for index, (_, y) in enumerate(batches.pairs):
        for label in y.tolist():
            file, sha256 = next(files)
            writer.writerow((index, file, label, sha256))
    content = stream.getvalue().encode()
    name = f"{batches.pictures.name}-{hashlib.sha256(content).hexdigest()[:12]}.csv"
    return store.save_artifact(content, f"batches/{name}", settings.work)
