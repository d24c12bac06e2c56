"""Models by name, and weights from files."""

from lla.models.hugging_face import transformer
from lla.models.lenet import MLP, LeNet
from lla.models.libraries import library_model
from lla.models.preprocessing import picture_preprocessing, preprocessing
from lla.models.pretrained import (
    Pretrained,
    PretrainedSource,
    find_pretrained,
    pretrained,
    pretrained_names,
)
from lla.models.registry import build, names, register
from lla.models.resnet20 import ResNet20
from lla.models.weights import load_weights

__all__ = [
    "MLP",
    "LeNet",
    "Pretrained",
    "PretrainedSource",
    "ResNet20",
    "build",
    "find_pretrained",
    "library_model",
    "load_weights",
    "names",
    "picture_preprocessing",
    "preprocessing",
    "pretrained",
    "pretrained_names",
    "register",
    "transformer",
]
