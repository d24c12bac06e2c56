"""Networks of transformers, from a folder or a name on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from lla._torchvision import import_torchvision
from lla.arguments import seed_number
from lla.errors import InputError, MissingDataError, in_one_line
from lla.seeding import seeded
from lla.tensor_hashes import weights_sha256


def transformer(
    name: str, seed: int = 0, *, pretrained: bool = False, download: bool = False
) -> tuple[nn.Module, str | None]:
    """Build a network of transformers from its configuration.

    The class is the first one that the configuration names under `architectures`, else that of
    `transformers.AutoModel`. The weights are float32, whatever the configuration says, but float64
    where it says that. Code that comes with a configuration is not run.

    Args:
        name: a folder with config.json, or a name on the Hugging Face hub.
        seed: of random weights; also of those that `pretrained` does not find there.
        pretrained: take the weights of that folder or name.
        download: whether files may be fetched from the hub.

    Returns:
        The network in eval mode, and what its weights are in words, with the sha256 of their names
        and values, and which of them are random; None if all are.

    Raises:
        InputError: transformers is not installed, or cannot build the network.
        MissingDataError: there is no such configuration here, or no weights, and they may not be
            fetched.
    """
    seed = seed_number(seed)
    transformers = _library()
    with _quiet(transformers):
        config = _config(transformers, name, download)
        kind = _class(transformers, config, name)
        with seeded(torch.device("cpu"), seed):
            if pretrained:
                return _with_weights(kind, config, name, seed, download)
            try:
                auto = kind is transformers.AutoModel
                made = kind.from_config(config) if auto else kind(config)
            except MemoryError:
                raise
            except Exception as error:
                raise _unusable(name, error, "check its configuration") from error
    return made.eval(), None


def _library() -> ModuleType:
    """The package transformers."""
    try:
        import_torchvision()  # transformers imports it
        import transformers
    except ImportError as error:
        raise InputError(
            f"networks of hf: need the package transformers ({in_one_line(error)}): install it "
            "with pip install transformers"
        ) from error
    return transformers


def _config(transformers: ModuleType, name: str, download: bool) -> Any:
    """The configuration, for weights in a type that has second derivatives."""
    try:
        config = transformers.AutoConfig.from_pretrained(
            name, local_files_only=not download, trust_remote_code=False
        )
    except Exception as error:  # it documents no type
        if (Path(name) / "config.json").is_file():
            raise _unusable(name, error, "check its config.json") from error
        raise MissingDataError(
            f"there is no configuration {name!r}: name a folder with config.json, or allow "
            "downloads"
        ) from error
    double = str(config.dtype).endswith("float64")
    config.dtype = torch.float64 if double else torch.float32
    return config


def _class(transformers: ModuleType, config: Any, name: str) -> Any:
    """The class of the network that a configuration is for."""
    names = config.architectures or ["AutoModel"]
    kind = getattr(transformers, names[0], None)
    known = isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
    if not (known or kind is transformers.AutoModel):
        raise InputError(
            f"transformers has no network {names[0]}, which {name!r} asks for: update it"
        )
    return kind


def _with_weights(
    kind: Any, config: Any, name: str, seed: int, download: bool
) -> tuple[nn.Module, str]:
    """The network with the weights of a folder or a name, and what they are in words."""
    try:
        model, found = kind.from_pretrained(
            name, config=config, dtype=config.dtype, local_files_only=not download,
            output_loading_info=True,
        )  # fmt: skip
    except MemoryError:
        raise
    except OSError as error:
        raise MissingDataError(
            f"there are no weights of {name!r} ({in_one_line(error)}): name a folder that has "
            "them, or allow downloads"
        ) from error
    except Exception as error:
        raise _unusable(name, error, "check its weights") from error
    text = f"weights of {name} (values sha256 {weights_sha256(model)[:8]})"
    if found["missing_keys"]:
        text += f", but random (seed {seed}): {', '.join(sorted(found['missing_keys']))}"
    return model.eval(), text


def _unusable(name: str, error: Exception, remedy: str) -> InputError:
    return InputError(f"transformers cannot build {name!r} ({in_one_line(error)}): {remedy}")


@contextmanager
def _quiet(transformers: ModuleType) -> Iterator[None]:
    """No progress bars of transformers, which are as they were afterwards."""
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
