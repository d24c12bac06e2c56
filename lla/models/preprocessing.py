"""What images and pictures go through before a registered model sees them.

Two kinds of data come to a model by two ways: the small images of a data set, held as bytes, by
`lla.data.batches` with the options that `preprocessing` gives; photographs in files by
`lla.data.picture_batches` with the `PicturePreprocessing` that `picture_preprocessing` gives.
"""

from typing import Any

from lla.data import IMAGENET_MEAN, IMAGENET_STD, PicturePreprocessing
from lla.errors import InputError

_HALF = (0.5, 0.5, 0.5)
_TORCHVISION = PicturePreprocessing()
_AUGREG = PicturePreprocessing(248, 224, "bicubic", _HALF, _HALF)

_PICTURES: dict[str, PicturePreprocessing] = {
    "resnet18": _TORCHVISION,
    "resnet50": _TORCHVISION,
    "alexnet": _TORCHVISION,
    "squeezenet1_1": _TORCHVISION,
    "mobilenet_v2": _TORCHVISION,
    "vit_base_patch16_224": _AUGREG,
    "vit_tiny_patch16_224": _AUGREG,
    # as the only weights known for it expect, not those that timm offers
    "mobilenetv2_100": PicturePreprocessing(256, 224, "bilinear", _HALF, _HALF),
}


def preprocessing(name: str, **options: Any) -> dict[str, Any]:
    """The options of `lla.data.batches` that fit a registered model; none if it needs none.

    Args:
        name: A registered name.
        **options: Those that the model is built with.

    Returns:
        Keyword arguments: a side to pad to, mean and standard deviation.

    Example:
        >>> preprocessing("lenet")
        {'size': 32}
        >>> preprocessing("lenet", padding=2)  # has the border of zeros in itself
        {}
    """
    if name == "lenet":
        return {} if options.get("padding") else {"size": 32}
    if name == "resnet20":
        return {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}  # as its published weights expect
    if name in _PICTURES:
        return {"mean": _PICTURES[name].mean, "std": _PICTURES[name].std}
    return {}


def picture_preprocessing(name: str, size: int | None = None) -> PicturePreprocessing:
    """The preprocessing of photographs that fits a registered model.

    Args:
        name: A registered name.
        size: Side of the network's input in pixels; None takes the usual one, 224. Another one
            shows the same part of the picture in more or fewer pixels.

    Returns:
        What `lla.data.picture_batches` takes.

    Raises:
        InputError: The model is none for photographs.

    Example:
        >>> picture_preprocessing("vit_base_patch16_224").resize
        248
    """
    if name not in _PICTURES:
        raise InputError(
            f"there is no preprocessing of photographs for {name!r}: choose from "
            f"{', '.join(_PICTURES)}, or make a lla.data.PicturePreprocessing."
        )
    usual = _PICTURES[name]
    return usual if size is None else usual.scaled(size)
