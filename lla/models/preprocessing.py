"""What the images of a data set go through before a registered model sees them."""

from typing import Any

from lla.data import IMAGENET_MEAN, IMAGENET_STD

_PREPROCESSING: dict[str, dict[str, Any]] = {
    "lenet": {"size": 32},  # without padding of its own; 28 x 28 digits get a border of zeros
    "resnet20": {"mean": IMAGENET_MEAN, "std": IMAGENET_STD},  # as its published weights expect
}


def preprocessing(name: str) -> dict[str, Any]:
    """The options of `lla.data.batches` that fit a registered model; none if it needs none.

    >>> preprocessing("lenet")
    {'size': 32}
    """
    return dict(_PREPROCESSING.get(name, {}))
