"""Models by name, and weights from files."""

from lla.models.lenet import MLP, LeNet
from lla.models.preprocessing import preprocessing
from lla.models.registry import build, names, register
from lla.models.resnet20 import ResNet20
from lla.models.weights import load_weights

__all__ = [
    "MLP",
    "LeNet",
    "ResNet20",
    "build",
    "load_weights",
    "names",
    "preprocessing",
    "register",
]
