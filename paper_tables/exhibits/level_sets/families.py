"""Networks that walks start from: trained on few, noisy images down to a small training loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lla
from lla import data
from lla.data import ImageSet
from lla.errors import MissingDataError, NonFiniteError
from lla.seeding import generator, seeded
from paper_tables.engine.cells import Settings
from paper_tables.engine.session import session_cached
from paper_tables.inputs import image_sets
from paper_tables.inputs.common_loss import MOMENTUM, Descent, train

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Family:
    """Networks that differ in their seed alone: of weights, images, noise and order.

    Attributes:
        row: of the tables.
        data: name of the data set.
        network: "mlp" for 8 x 8 pixels, one hidden layer of 32 units; "lenet". Both with tanh.
        images: training images.
        unseen: test images at most.
        noise: standard deviation of Gaussian noise on pixels in [0, 1], of training and test
            images.
        level: training loss.
        seeds: how many networks.
        steps: of each walk.
        lr, batch_size, most: of the training by SGD with momentum, and its steps at most.
        seconds: estimate of a walk of one network by ||theta||^2, on 2 CPU cores.
    """

    row: str
    data: str
    network: str
    images: int
    unseen: int
    noise: float
    level: float
    seeds: int
    steps: int
    lr: float
    batch_size: int
    most: int
    seconds: float


QUICK = Family("digits", "digits", "mlp", 300, 1497, 0.25, 0.01, 3, 100, 0.1, 32, 4000, 1.2)
MORE = Family(
    "digits, 10 seeds", "digits", "mlp", 300, 1497, 0.25, 0.01, 10, 100, 0.1, 32, 4000, 1.2
)
REAL = Family("mnist", "mnist", "lenet", 300, 1000, 0.25, 0.01, 10, 100, 0.05, 32, 8000, 60)
FAMILIES = (QUICK, MORE, REAL)


def families(settings: Settings) -> Iterator[tuple[Family, str | None]]:
    """The families to measure, each with the reason why it cannot be."""
    for family in FAMILIES if settings.profile.runs.real else (QUICK,):
        try:
            sets(settings, family)
        except MissingDataError as error:
            yield family, error.reason
        else:
            yield family, None


@session_cached()
def sets(settings: Settings, family: Family) -> tuple[ImageSet, ImageSet]:
    """Training and test split.

    Raises:
        MissingDataError: they are not found.
    """
    train_set, test_set = (
        data.load(family.data, split, settings.data_root, download=settings.download)
        for split in ("train", "test")
    )
    return train_set, test_set


@session_cached(size=12)
def examples(settings: Settings, family: Family, seed: int) -> tuple[Pair, Pair]:
    """The training and the test images of a network, noisy, in float64 on the session's device.

    Test images are those of the test split, and as many of the training split as are left over.
    """
    known, other = sets(settings, family)
    order = torch.randperm(len(known), generator=generator(seed, 0))
    rest = torch.randperm(len(other), generator=generator(seed, 1))
    x = torch.cat([_inputs(family, known.images[order]), _inputs(family, other.images[rest])])
    y = torch.cat([known.labels[order], other.labels[rest]])
    if family.network == "lenet":  # the test split alone is large enough
        x, y = (torch.cat([t[: family.images], t[len(known) :]]) for t in (x, y))
    x, y = (t[: family.images + family.unseen] for t in (x, y))
    x = x + family.noise * torch.randn(x.shape, generator=generator(seed, 2), dtype=x.dtype)
    x, y = x.to(settings.device), y.to(settings.device)
    k = family.images
    return (x[:k], y[:k]), (x[k:], y[k:])


def _inputs(family: Family, stored: Tensor) -> Tensor:
    """Images in [0, 1] in float64; the small network gets them averaged, without their border."""
    x = data.to_input(stored).double()
    return F.adaptive_avg_pool2d(x[:, :, 4:-4, 4:-4], 8) if family.network == "mlp" else x


class SmoothLeNet(nn.Sequential):
    """LeNet for 28 x 28 pixels with tanh in place of ReLU and averages in place of maxima."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2),
            nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(),
            nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10),
        )  # fmt: skip


def _untrained(family: Family) -> nn.Module:
    if family.network == "lenet":
        return SmoothLeNet()
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))


@session_cached(size=12)
def start(settings: Settings, family: Family, seed: int) -> lla.Problem:
    """A trained network with its training data, at the level of the family."""
    (x, y), _ = examples(settings, family, seed)
    with seeded(torch.device("cpu"), seed):
        model = _untrained(family).double()
    model.to(settings.device)
    how = Descent(family.lr, family.batch_size, 0.0, seed, family.level, family.most)
    outcome = train(model, x, y, how)
    if not outcome.reached:
        raise NonFiniteError(
            f"network {seed} of {family.row} comes to a loss of {outcome.loss:.3g} in "
            f"{outcome.steps} steps, not to {family.level:g}: raise its steps"
        )
    return lla.Problem(model, (x, y))


def config_of(settings: Settings, family: Family) -> dict[str, Any]:
    """Everything that determines a network and its data, but for the seed."""
    return {
        "network": family.network, "images": family.images, "unseen": family.unseen,
        "noise": family.noise, "level": family.level,
        "training": {
            "optimizer": "sgd", "momentum": MOMENTUM, "lr": family.lr,
            "batch_size": family.batch_size, "most": family.most,
        },
        "dtype": "float64", "mode": "eval",
        **image_sets.config_of(sets(settings, family)[0]),
    }  # fmt: skip
