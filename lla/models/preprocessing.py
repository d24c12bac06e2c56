"""The preprocessing of images and pictures for registered models.

There are two kinds of data. The small images of a data set, held as bytes, go through
`lla.data.batches` with the options from `preprocessing`. Photographs in files go through
`lla.data.picture_batches` with the `PicturePreprocessing` from `picture_preprocessing`.
"""

from typing import Any

from lla.data import IMAGENET_MEAN, IMAGENET_STD, PicturePreprocessing
from lla.errors import InputError
from lla.models import efficientnet_lite
from lla.models.zoo import EFFICIENTNETS, TORCHVISION, VISION_TRANSFORMERS

_HALF = (0.5, 0.5, 0.5)
_PICTURES: dict[str, PicturePreprocessing] = {
    **dict.fromkeys(TORCHVISION, PicturePreprocessing()),
    **dict.fromkeys(VISION_TRANSFORMERS, PicturePreprocessing(248, 224, "bicubic", _HALF, _HALF)),
    # for the only weights that are known for it, which are not timm's
    "mobilenetv2_100": PicturePreprocessing(256, 224, "bilinear", _HALF, _HALF),
    **{name: efficientnet_lite.picture_preprocessing(name) for name in EFFICIENTNETS},
}


def preprocessing(name: str, **options: Any) -> dict[str, Any]:
    """The options of `lla.data.batches` for a registered model.

    Args:
        name: A registered name.
        **options: With which the model is built.

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
    if name in ("resnet20", "resnet44", "resnet56"):
        return {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}  # as its published weights expect
    if name in _PICTURES:
        return {"mean": _PICTURES[name].mean, "std": _PICTURES[name].std}
    return {}


def picture_preprocessing(name: str, size: int | None = None) -> PicturePreprocessing:
    """The preprocessing of photographs for a registered model.

    Args:
        name: A registered name.
        size: Side of the network's input in pixels; None takes the usual one, 224 for most. Another
            one shows the same part of the picture in more or fewer pixels.

    Returns:
        The preprocessing for `lla.data.picture_batches`.

    Raises:
        InputError: The model does not take photographs.

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
