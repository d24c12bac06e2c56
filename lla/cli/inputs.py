"""The inputs of the command line: a network and batches, from their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lla import data as datasets
from lla import models
from lla.arguments import seed_number, usable_device
from lla.cli.own_functions import called, is_function
from lla.data.images import draw
from lla.data.pictures import is_bundled
from lla.errors import InputError, unknown_name

BATCH_SIZE = 512
# where a network comes from, besides the registry: the word before the colon
SOURCES = ("timm", "torchvision", "hf")


@dataclass(frozen=True)
class Inputs:
    """A network and its batches."""

    model: nn.Module  # on the device
    batches: Any  # whatever `lla.Problem` takes
    data: str  # in words: data set, fidelity, how much
    weights: str  # in words: random weights and their seed, or a file and its sha256


def load_inputs(
    model: str,
    data: str,
    *,
    split: str | None = None,
    weights: str | None = None,
    batches: int | None = None,
    batch_size: int | None = None,
    size: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    data_root: Path | None = None,
    download: bool = False,
    usual: tuple[int, int] = (1, BATCH_SIZE),
) -> Inputs:
    """Build the network, load its weights, draw the batches.

    Args:
        model: a registered name, "timm:NAME", "torchvision:NAME", "hf:FOLDER", or
            "package.module:function" that makes a network.
        data: a data set, a set or a folder of pictures, or "package.module:function" that gives
            batches.
        split: of a data set; None takes "train".
        weights: a file; "pretrained" for the published ones; None for random weights.
        batches: how many, drawn at random without replacement.
        batch_size: images a batch.
        size: side in pixels to which pictures are scaled; None takes the network's own.
        seed: of random weights and of the draw.
        device: of both.
        data_root: folder of data sets and of `weights/`; None takes LLA_DATA.
        download: fetch what is missing.
        usual: `batches` and `batch_size` where they are None.

    Raises:
        InputError: a name or a device is unknown; an argument does not apply to the data or the
            network; network, weights and data do not fit together.
        MissingDataError: data or weights are not found.
    """
    seed, place = seed_number(seed), usable_device(device)
    _check_model(model)
    resized = size is not None and ":" not in model and model.startswith("vit")
    if is_function(data):
        given = {"split": split, "batches": batches, "batch_size": batch_size, "size": size}
        return _with_own_batches(model, data, weights, given, seed, place, data_root, download)
    folder = data not in datasets.picture_names() and Path(data).is_dir()
    pictures = folder or data in datasets.picture_names()
    _check_data(model, data, split, size, pictures or resized, pictures, weights, data_root)
    batches, batch_size = batches or usual[0], batch_size or usual[1]
    # Sizes that do not fit the data are refused by `draw` before the network is made.
    if pictures:
        found = datasets.read_pictures(data) if folder else datasets.load_pictures(data, data_root)
        draw(len(found), batch_size, batches, seed, f"{data} has {len(found)} pictures")
        text, classes = f"{data} ({found.fidelity}: {found.note})", found.classes
    else:
        split = split or "train"
        images = datasets.load(data, split, root=data_root, download=download)
        draw(len(images), batch_size, batches, seed, f"{data} {split} has {len(images)} images")
        text = f"{data} {split} ({images.fidelity}: {images.note})"
        classes = images.classes
    text = f"{batches} x {batch_size} images of {text}"
    side = {"img_size": size} if resized else {}
    network = _network(model, weights, classes, seed, place, data_root, download, side)
    if not pictures:
        pairs = datasets.batches(
            images, batch_size, batches, seed, device=place, **network.batch_options
        )
        return Inputs(network.model, pairs, text, network.weights)
    view = network.view or datasets.PicturePreprocessing()
    drawn = datasets.picture_batches(
        found, view if size is None else view.scaled(size), batch_size, batches, seed, device=place
    )
    return Inputs(network.model, drawn.pairs, text, network.weights)


def _check_model(model: str) -> None:
    """Refuse a name that is no network's."""
    if ":" not in model and model not in (*models.names(), *models.pretrained_names()):
        raise unknown_name("model", model, models.names())


def _check_data(
    model: str,
    data: str,
    split: str | None,
    size: int | None,
    scalable: bool,
    pictures: bool,
    weights: str | None,
    data_root: Path | None,
) -> None:
    """Refuse what does not apply to a set of images or pictures."""
    if split is not None and pictures:
        raise InputError(f"the pictures {data!r} have no splits to choose from: leave --split out")
    if size is not None and not scalable:
        raise InputError(
            f"--size applies to pictures and vision transformers, not to {model} on {data}: leave "
            "it out"
        )
    known = (*datasets.names(), *datasets.picture_names())
    if data not in known:
        if Path(data).is_dir():
            return
        raise unknown_name("data set", data, known)
    if data_root is not None and is_bundled(data) and weights != "pretrained":
        raise InputError(
            f"--data-root is not read for {data}, which is bundled: leave it out, or take another "
            "data set"
        )


@dataclass(frozen=True)
class _Network:
    """A network, its weights in words, and how its inputs are prepared."""

    model: nn.Module
    weights: str
    batch_options: Mapping[str, Any]  # of `lla.data.batches`
    view: datasets.PicturePreprocessing | None  # of pictures; None: the usual one


def _network(
    model: str,
    weights: str | None,
    classes: int | None,
    seed: int,
    device: torch.device,
    data_root: Path | None,
    download: bool,
    options: dict[str, Any],
) -> _Network:
    """The network of a name with its weights, on a device."""
    source, _, name = model.partition(":")
    text = f"random weights (seed {seed})"
    batch_options: Mapping[str, Any] = {}
    view = None
    if ":" not in model and weights == "pretrained":
        trained = models.pretrained(model, root=data_root, download=download, **options)
        network, batch_options, view = trained.model, trained.batch_options, trained.preprocessing
        text = f"weights {trained.file} ({trained.fidelity}, sha256 {trained.sha256[:8]})"
    elif ":" not in model:
        chosen = options if classes is None else {"num_classes": classes, **options}
        network = models.build(model, seed=seed, **chosen)
        batch_options, view = models.preprocessing(model), _view(model)
    elif source == "hf":
        network, found = models.transformer(
            name, seed, pretrained=weights == "pretrained", download=download
        )
        text = found or text
    elif source in SOURCES:
        if weights == "pretrained":
            raise InputError(
                f"--weights pretrained is for networks of `lla models`, not for {model}: give a "
                "checkpoint"
            )
        network = models.library_model(source, name, classes, seed)  # type: ignore[arg-type]
    else:
        network = called(model, "makes a network", device, seed)
        if not isinstance(network, nn.Module):
            raise InputError(f"{model}() gives {type(network).__name__}, not a torch.nn.Module")
        text = f"weights as {model} gives them (seed {seed})"
        if weights == "pretrained":
            raise InputError(
                f"--weights pretrained is for networks of `lla models`, not for {model}: give a "
                "checkpoint, or load the weights in the function"
            )
    if weights not in (None, "pretrained"):
        text = f"weights {weights} (sha256 {models.load_weights(network, weights)[:8]})"
    return _Network(network.to(device), text, batch_options, view)


def _view(model: str) -> datasets.PicturePreprocessing | None:
    """How a registered network sees pictures; None if it is not for pictures."""
    try:
        return models.picture_preprocessing(model)
    except InputError:
        return None


def _with_own_batches(
    model: str,
    data: str,
    weights: str | None,
    given: Mapping[str, Any],
    seed: int,
    device: torch.device,
    data_root: Path | None,
    download: bool,
) -> Inputs:
    """A network on the batches that the caller's own function gives, all of them."""
    for option, value in given.items():
        if value is not None:
            raise InputError(
                f"--{option.replace('_', '-')} does not apply to {data}, whose batches are all "
                "used: leave it out"
            )
    batches = called(data, "gives batches", device, seed)
    network = _network(model, weights, None, seed, device, data_root, download, {})
    return Inputs(network.model, batches, f"the batches of {data}", network.weights)
