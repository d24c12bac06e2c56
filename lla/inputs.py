"""The inputs of the command line: a network and batches, from their names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lla import data as datasets
from lla import models
from lla.errors import InputError


@dataclass(frozen=True)
class Inputs:
    """A network and its batches."""

    model: nn.Module
    pairs: list[tuple[Tensor, Tensor]]  # x [n, C, H, W], y [n]
    text: str  # in words: data set, fidelity, weights


def load_inputs(
    model: str,
    data: str,
    *,
    split: str = "train",
    weights: str | None = None,
    batches: int = 1,
    batch_size: int = 512,
    size: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    data_root: Path | None = None,
    download: bool = False,
) -> Inputs:
    """Build the network, load its weights, draw the batches.

    Args:
        model: a registered name, or "package.module:function" that makes a network.
        data: a data set, or a set of pictures.
        split: of a data set.
        weights: a file; "pretrained" for the published ones; None for random weights.
        batches: how many, drawn at random without replacement.
        batch_size: images a batch.
        size: side in pixels to which pictures are scaled; None takes the network's own.
        seed: of random weights and of the draw.
        device: of both.
        dtype: of both.
        data_root: folder of data sets and of `weights/`; None takes LLA_DATA.
        download: fetch what is missing.

    Raises:
        InputError: a name is unknown, or network, weights and data do not fit together.
        MissingDataError: data or weights are not found.
    """
    pictures = data in datasets.picture_names()
    side: dict[str, Any] = {"img_size": size} if size and model.startswith("vit") else {}
    options: dict[str, Any] = {}
    transform = datasets.PicturePreprocessing()
    if pictures:
        found = datasets.load_pictures(data, data_root)
        text, classes = f"{data} ({found.fidelity}: {found.note})", found.classes
    else:
        images = datasets.load(data, split, root=data_root, download=download)
        text = f"{data} {split} ({images.fidelity}: {images.note})"
        classes = images.classes
    if weights == "pretrained":
        trained = models.pretrained(model, root=data_root, download=download, **side)
        network, options = trained.model, trained.batch_options
        transform = trained.preprocessing or transform
        text += f", weights {trained.file} ({trained.fidelity})"
    elif ":" in model:
        network = _made_by(model)
    else:
        network = models.build(model, num_classes=classes, seed=seed, **side)
        options = models.preprocessing(model)
        if pictures:
            transform = models.picture_preprocessing(model)
    if weights not in (None, "pretrained"):
        models.load_weights(network, weights)
    network.to(device=device, dtype=dtype)
    if not pictures:
        pairs = datasets.batches(
            images, batch_size, batches, seed, device=device, dtype=dtype, **options
        )
        return Inputs(network, pairs, text)
    drawn = datasets.picture_batches(
        found, transform if size is None else transform.scaled(size), batch_size, batches, seed,
        device=device, dtype=dtype,
    )  # fmt: skip
    return Inputs(network, drawn.pairs, text)


def _made_by(name: str) -> nn.Module:
    """The network that the caller's own function makes."""
    module, _, attribute = name.partition(":")
    sys.path.insert(0, "")  # the working directory, as with `python -m`
    try:
        make: Callable[[], nn.Module] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"{name} cannot be imported ({error}): give package.module:function, seen from here"
        ) from error
    finally:
        sys.path.remove("")
    network = make()
    if not isinstance(network, nn.Module):
        raise InputError(f"{name}() gives {type(network).__name__}, not a torch.nn.Module")
    return network
