"""Networks and data sets as the paper writes them."""

from __future__ import annotations

_NAMES = {
    "lenet": "LeNet",
    "resnet18": "ResNet18",
    "alexnet": "AlexNet",
    "squeezenet": "SqueezeNet",
    "mobilenet": "MobileNet",
    "vit": "ViT",
    "resnet20": "ResNet20",
    "resnet44": "ResNet44",
    "resnet50": "ResNet50",
    "resnet56": "ResNet56",
    "mnist": "MNIST",
    "svhn": "SVHN",
    "svhn-gray": "SVHN",
    "rendered-digits-gray": "rendered digits",
    "cifar10": "CIFAR-10",
    "cifar10-shifted": "shifted CIFAR-10",
    "cinic10": "CINIC-10",
    "cinic10-i": "CINIC-10-i",
    "imagenet": "ImageNet",
    "ni": "NI",
}


def display(name: str) -> str:
    """The name of a network or a data set as the paper writes it."""
    return _NAMES.get(name, name)


def display_scope(scope: str) -> str:
    """The scope of a claim with the names in it as the paper writes them.

    >>> display_scope("lenet, uniform init"), display_scope("vit")
    ('LeNet, uniform init', 'ViT')
    """
    return ", ".join(map(display, scope.split(", ")))
