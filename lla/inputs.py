"""The inputs of the command line: a network and batches, from their names."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lla import data as datasets
from lla import models
from lla.arguments import seed_number, usable_device
from lla.data.images import draw
from lla.data.pictures import is_bundled
from lla.errors import InputError, in_one_line, out_of_memory, unknown_name
from lla.seeding import seeded


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
    split: str | None = None,
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
        split: of a data set; None takes "train".
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
        InputError: a name or a device is unknown; an argument does not apply to the data or the
            network; network, weights and data do not fit together.
        MissingDataError: data or weights are not found.
    """
    seed, place = seed_number(seed), usable_device(device)
    pictures = data in datasets.picture_names()
    resized = size is not None and ":" not in model and model.startswith("vit")
    side: dict[str, Any] = {"img_size": size} if resized else {}
    if ":" not in model and model not in (*models.names(), *models.pretrained_names()):
        raise unknown_name("model", model, models.names())
    if split is not None and pictures:
        raise InputError(f"the pictures {data!r} have no splits to choose from: leave --split out")
    if size is not None and not (pictures or resized):
        raise InputError(
            f"--size applies to pictures and vision transformers, not to {model} on {data}: leave "
            "it out"
        )
    if data_root is not None and is_bundled(data) and weights != "pretrained":
        raise InputError(
            f"--data-root is not read for {data}, which is bundled: leave it out, or take another "
            "data set"
        )
    # Sizes that do not fit the data are refused by `draw` before the network is made.
    options: dict[str, Any] = {}
    transform = datasets.PicturePreprocessing()
    if pictures:
        found = datasets.load_pictures(data, data_root)
        draw(len(found), batch_size, batches, seed, f"{data} has {len(found)} pictures")
        text, classes = f"{data} ({found.fidelity}: {found.note})", found.classes
    else:
        split = split or "train"
        images = datasets.load(data, split, root=data_root, download=download)
        draw(len(images), batch_size, batches, seed, f"{data} {split} has {len(images)} images")
        text = f"{data} {split} ({images.fidelity}: {images.note})"
        classes = images.classes
    if weights == "pretrained":
        trained = models.pretrained(model, root=data_root, download=download, **side)
        network, options = trained.model, trained.batch_options
        transform = trained.preprocessing or transform
        text += f", weights {trained.file} ({trained.fidelity})"
    elif ":" in model:
        network = _made_by(model, place, seed)
    else:
        network = models.build(model, num_classes=classes, seed=seed, **side)
        options = models.preprocessing(model)
        if pictures:
            transform = models.picture_preprocessing(model)
    if weights not in (None, "pretrained"):
        models.load_weights(network, weights)
    network.to(device=place, dtype=dtype)
    if not pictures:
        pairs = datasets.batches(
            images, batch_size, batches, seed, device=place, dtype=dtype, **options
        )
        return Inputs(network, pairs, text)
    drawn = datasets.picture_batches(
        found, transform if size is None else transform.scaled(size), batch_size, batches, seed,
        device=place, dtype=dtype,
    )  # fmt: skip
    return Inputs(network, drawn.pairs, text)


def _made_by(name: str, device: torch.device, seed: int) -> nn.Module:
    """The network that the caller's own function makes, with random weights from the seed.

    Raises:
        InputError: there is no such function, it needs arguments or raises, or it makes no network.
    """
    with seeded(device, seed):  # a module may make its network when it is imported
        make = _function(name)
        try:
            network = make()
        except Exception as error:  # of the caller's own code
            if out_of_memory(error):
                raise
            raise InputError(f"{name}() raises {in_one_line(error)}: mend the function") from error
    if not isinstance(network, nn.Module):
        raise InputError(f"{name}() gives {type(network).__name__}, not a torch.nn.Module")
    return network


def _function(name: str) -> Callable[[], Any]:
    """The function that "package.module:function" names; it can be called without arguments."""
    module, _, attribute = name.partition(":")
    if not module or not attribute or module.startswith("."):
        raise InputError(f"the model is {name!r}: give package.module:function")
    sys.path.insert(0, "")  # the working directory, as with `python -m`
    try:
        make = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # of the caller's own code, too
        reason = (
            str(error) if isinstance(error, ImportError | AttributeError) else in_one_line(error)
        )
        raise InputError(
            f"{name} cannot be imported ({reason}): give package.module:function, seen from here"
        ) from error
    finally:
        sys.path.remove("")
    if not callable(make):
        raise InputError(f"{name} is {type(make).__name__}, not a function that makes a network")
    try:
        inspect.signature(make).bind()
    except ValueError:  # a compiled function may not tell its arguments
        pass
    except TypeError as error:
        raise InputError(
            f"{name} needs arguments ({error}): name a function that takes none"
        ) from error
    return make
