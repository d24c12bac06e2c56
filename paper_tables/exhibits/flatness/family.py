"""A family of trained networks: generalization gap and measures of flatness, network by network.

Small convolutional networks with global average pooling, trained at several learning rates, batch
sizes, weight decays and seeds down to the same training loss. Each is measured twice: as it is, and
after its layers are rescaled at random in a way that leaves the function unchanged.
"""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lla import data
from lla.data import ImageSet
from lla.errors import MissingDataError, NonFiniteError
from lla.seeding import generator, seeded
from lla.training import weights_sha256
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.fidelity import cell_fidelity
from paper_tables.engine.records import Record, Source
from paper_tables.engine.session import session_cached
from paper_tables.exhibits.flatness.comparators import DRAWS, MEASURES, RISE, STEPS, measured
from paper_tables.inputs import image_sets
from paper_tables.inputs.common_loss import CHECK_EVERY, MOMENTUM, Descent, train

TABLE = "flatness_family"
LAYER = "conv3"  # the last one before the average
OF_GAP = ("gap_loss", "gap_accuracy", "training_loss", "test_loss", "test_accuracy")
RESCALED = tuple(f"rescaled_{name}" for name in MEASURES)
CHANGE = "output_change"  # of the rescaled network, relative
METRICS = (*OF_GAP, *MEASURES, *RESCALED, CHANGE)
FACTORS = (5.0, 25.0)  # range of the factors of the published rescaling
UNSEEN = 5000  # with fewer test images the rest of the training split is taken besides
SEED = 0  # of the choice of training images
ATTEMPTS = 3  # seeds of initialisation that a training may take


@dataclass(frozen=True)
class Family:
    """Networks that differ in how they were trained.

    Attributes:
        name: of the data set.
        images: training images.
        width: channels of the first layer; the others have twice as many.
        border: pixels cut off at each side.
        pool: images are averaged over squares of this side.
        target: training loss.
        steps: most steps of a training.
        lrs, batch_sizes, weight_decays, seeds: every combination is trained.
        seconds: estimate for a network, on 2 CPU cores.
    """

    name: str
    images: int
    width: int
    border: int
    pool: int
    target: float
    steps: int
    lrs: tuple[float, ...]
    batch_sizes: tuple[int, ...]
    weight_decays: tuple[float, ...]
    seeds: int
    seconds: float

    @property
    def trainings(self) -> list[Descent]:
        """How each network is trained."""
        grid = itertools.product(self.lrs, self.batch_sizes, self.weight_decays, range(self.seeds))
        return [
            Descent(lr, size, decay, seed, self.target, self.steps)
            for lr, size, decay, seed in grid
        ]


BUNDLED = Family(
    "digits", 300, 8, 4, 2, 0.05, 2000, (0.04, 0.1), (16, 64), (0.0, 1e-3), 3, seconds=5
)
REAL = (
    Family(
        "mnist", 500, 8, 0, 2, 0.05, 6000, (0.05, 0.1, 0.2), (16, 64), (0.0, 1e-3), 6, seconds=30
    ),
    Family(
        "cifar10", 1000, 16, 0, 1, 0.1, 8000, (0.01, 0.02, 0.04), (16, 64), (0.0, 1e-3), 6,
        seconds=150,
    ),
)  # fmt: skip


def cells(settings: Settings) -> list[Cell]:
    """One cell a network: of bundled digits, and of real images where these are asked for."""
    found = [_cell(settings, BUNDLED, how) for how in BUNDLED.trainings]
    for family in REAL if settings.profile.runs.real else ():
        try:
            images(settings, family)
        except MissingDataError as error:
            absent = Cell(TABLE, family.name, "family", f"{family.name}-family", ("kappa",), {},
                          None, "")  # fmt: skip
            found.append(absent.absent(error.reason))
        else:
            found += [_cell(settings, family, how) for how in family.trainings]
    return found


@dataclass(frozen=True)
class Images:
    """What a family is trained and tested on."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    source: ImageSet  # the training split


@session_cached()
def images(settings: Settings, family: Family) -> Images:
    """The images of a family, on the session's device.

    Raises:
        MissingDataError: the data set is not found.
    """
    whole, test = (
        data.load(family.name, split, settings.data_root, download=settings.download)
        for split in ("train", "test")
    )
    order = torch.randperm(len(whole), generator=generator(SEED))
    chosen, rest = order[: family.images], order[family.images :]
    x, y = _inputs(family, whole.images), whole.labels
    unseen, labels = [_inputs(family, test.images)], [test.labels]
    if len(test) < UNSEEN:
        unseen.append(x[rest])
        labels.append(y[rest])
    parts = (x[chosen], y[chosen], torch.cat(unseen), torch.cat(labels))
    a, b, c, d = (part.to(settings.device) for part in parts)
    return Images(a, b, c, d, whole)


def _inputs(family: Family, stored: Tensor) -> Tensor:
    """Images as the networks see them: in [0, 1], without border, averaged."""
    edge = slice(family.border, -family.border or None)
    return F.avg_pool2d(data.to_input(stored)[:, :, edge, edge], family.pool)


class SmallCNN(nn.Module):
    """Three convolutions with ReLU, the first with max pooling, an average, a linear layer."""

    def __init__(self, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.conv3 = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.linear = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, channels, H, W] to logits [N, classes]."""
        x = F.max_pool2d(self.conv1(x).relu(), 2)
        x = self.conv3(self.conv2(x).relu()).relu()
        return self.linear(x.mean((2, 3)))


@torch.no_grad()
def rescaled(model: SmallCNN, factors: Tensor) -> SmallCNN:
    """A copy that is the same function, its layers' outputs scaled by factors [3]."""
    other = copy.deepcopy(model)
    before = 1.0
    for layer, factor in zip(
        (other.conv1, other.conv2, other.conv3), factors.tolist(), strict=True
    ):
        layer.weight.mul_(factor / before)
        layer.bias.mul_(factor)  # type: ignore[union-attr]
        before = factor
    other.linear.weight.div_(before)
    return other


def _factors(seed: int) -> Tensor:
    low, high = map(math.log, FACTORS)
    drawn = torch.rand(3, generator=generator(SEED, seed), dtype=torch.float64)
    return (low + (high - low) * drawn).exp()


def _cell(settings: Settings, family: Family, how: Descent) -> Cell:
    found = images(settings, family)
    name = f"lr{how.lr:g}-b{how.batch_size}-wd{how.weight_decay:g}-s{how.seed}"
    training = {
        "network": "small CNN", "width": family.width, "images": family.images,
        "image_seed": SEED, "border": family.border, "pool": family.pool,
        "optimizer": "sgd", "momentum": MOMENTUM, "lr": how.lr, "batch_size": how.batch_size,
        "weight_decay": how.weight_decay, "seed": how.seed, "target": how.target,
        "steps": how.steps, "attempts": ATTEMPTS, "check_every": CHECK_EVERY,
        **image_sets.config_of(found.source),
    }  # fmt: skip
    return Cell(
        table=TABLE,
        row=family.name,
        column=name,
        name=f"{family.name}-{name}",
        metrics=METRICS,
        config={
            "training": training, "layer": LAYER, "factors": list(FACTORS), "m": STEPS,
            "rise": RISE, "draws": DRAWS,
            "probes": 1, "dtype": "float64", "mode": "eval",
        },
        fidelity=cell_fidelity(found.source.fidelity, whole=False),
        inputs=f"a network trained on {family.images} images of {family.name} to a loss of "
        f"{family.target:g}",
        compute=_compute,
        stage=2,
        seconds=family.seconds,
    )  # fmt: skip


def _compute(cell: Cell, settings: Settings) -> list[Record]:
    found = images(settings, _family(cell.row))
    how = cell.config["training"]
    model, steps = _trained(cell, found)
    weights = Source(f"{cell.name}, {steps} steps", weights_sha256(model))
    model.double()
    other = rescaled(model, _factors(how["seed"]))
    batch = (found.x.double(), found.y)
    values, errors = _gap(model, found)
    values |= measured(model, batch, LAYER)
    values |= {f"rescaled_{k}": v for k, v in measured(other, batch, LAYER).items()}
    with torch.no_grad():
        before, after = model(batch[0]), other(batch[0])
    values[CHANGE] = float((after - before).norm() / before.norm())
    facts: dict[str, Any] = {"data": image_sets.source_of(found.source), "weights": weights}
    return [
        cell.record(
            metric, values[metric], errors.get(metric), **facts,
            n=len(found.y_test) if metric in errors else None,
            stderr_kind="examples" if metric in errors else None,
        )
        for metric in METRICS
    ]  # fmt: skip


def _trained(cell: Cell, found: Images) -> tuple[SmallCNN, int]:
    """A network of the family and its steps; from other weights where it does not learn."""
    how = cell.config["training"]
    for attempt in range(ATTEMPTS):
        seed = how["seed"] + 1000 * attempt
        with seeded(torch.device("cpu"), seed):
            model = SmallCNN(found.x.shape[1], how["width"], found.source.classes)
        model.to(found.x.device)
        descent = Descent(
            how["lr"], how["batch_size"], how["weight_decay"], seed, how["target"], how["steps"]
        )
        outcome = train(model, found.x, found.y, descent)
        if outcome.reached:
            return model, outcome.steps
    raise NonFiniteError(
        f"{cell.name} does not come down to a loss of {how['target']} in {how['steps']} steps from "
        f"any of {ATTEMPTS} initialisations: lower its learning rate"
    )


def _gap(model: nn.Module, found: Images) -> tuple[dict[str, float], dict[str, float]]:
    """Loss and accuracy on test images less those on training images, and standard errors.

    The errors are those of the test images as a sample; the training images are what they are.
    """
    loss, right = _each(model, found.x, found.y)
    test, right_test = _each(model, found.x_test, found.y_test)
    n = len(test)
    accuracy = 100 * float(right_test.mean())
    values = {
        "gap_loss": float(test.mean() - loss.mean()),
        "gap_accuracy": 100 * float(right.mean()) - accuracy,
        "training_loss": float(loss.mean()),
        "test_loss": float(test.mean()),
        "test_accuracy": accuracy,
    }
    of_loss = float(test.std()) / math.sqrt(n)
    binomial = math.sqrt(accuracy * (100 - accuracy) / n)
    errors = {
        "gap_loss": of_loss, "test_loss": of_loss,
        "gap_accuracy": binomial, "test_accuracy": binomial,
    }  # fmt: skip
    return values, errors


@torch.no_grad()
def _each(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and rightness of every example, in float64."""
    dtype = next(model.parameters()).dtype
    logits = torch.cat([model(part.to(dtype)) for part in x.split(1024)]).double()
    return F.cross_entropy(logits, y, reduction="none"), (logits.argmax(1) == y).double()


def _family(name: str) -> Family:
    return next(family for family in (BUNDLED, *REAL) if family.name == name)
