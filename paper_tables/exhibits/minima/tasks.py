"""What is learned: networks, training data, held-out poison and test data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lla import data, models
from lla.data import ImageSet
from lla.files import sha256_of_parts
from lla.minima import Stage
from lla.seeding import generator, seeded
from paper_tables.engine.cells import Settings
from paper_tables.engine.fidelity import cell_fidelity
from paper_tables.engine.records import Source
from paper_tables.engine.session import session_cached
from paper_tables.inputs import image_sets

SEED = 0  # of data and of their division
MOST_TEST = 2000  # examples
GOOD = "natural"
ROLL_WIDTHS = (2, 23, 16, 26, 32, 28, 31)
ROLL, CIRCLES = "swiss-roll", "circles"
POINTS = 200  # of the swiss roll, and as many of poison
RINGS = ((0.4, 40, 0), (0.95, 80, 1))  # radius, points, class
TRAP = (0.401, 10, 1)  # between the points of the inner circle


@dataclass(frozen=True)
class Variant:
    """One way to train.

    Attributes:
        name: in columns.
        stages: see `lla.minima.train`; a share of 0 in all of them is a natural training.
    """

    name: str
    stages: tuple[Stage, ...]

    @property
    def share(self) -> float:
        """The weight of the poison in the end."""
        return self.stages[-1].share


def poisoned(share: float, *stages: tuple[int, float | None]) -> Variant:
    """A training with poison: steps and learning rates one after the other."""
    return Variant(f"b = {share:g}", tuple(Stage(share, steps, lr) for steps, lr in stages))


@dataclass(frozen=True)
class Task:
    """Networks of one shape on one data set, trained in several ways from several seeds.

    Attributes:
        name: of the rows.
        sizes: training examples and poison, of a set of images.
        variants: the natural training first, the strongest poison last.
        lr, batch_size, clip, loss_bound: see `lla.minima.train`.
        seeds: networks of each variant.
        directions: of the radial index.
        reach: its largest distance.
        cut: half the width of one-dimensional cuts.
        measured: training examples that radii and measures see.
        seconds: estimate for a network, on 2 CPU cores.
    """

    name: str
    sizes: tuple[int, int]
    variants: tuple[Variant, ...]
    lr: float
    batch_size: int | None
    clip: float | None
    loss_bound: float
    seeds: int
    directions: int
    cut: float
    measured: int
    seconds: float
    reach: float = 100.0


def _natural(steps: int) -> Variant:
    return Variant(GOOD, (Stage(0.0, steps),))


DIGITS = Task(
    "digits", (500, 600),
    (_natural(3000), poisoned(0.02, (4000, None)), poisoned(0.05, (4000, None)),
     poisoned(0.1, (4000, None)), poisoned(0.2, (3000, None), (2000, 1e-3)),
     poisoned(0.5, (3000, None), (2000, 1e-3))),
    lr=3e-3, batch_size=None, clip=None, loss_bound=0.01, seeds=3, directions=100, cut=0.6,
    measured=500, seconds=8,
)  # fmt: skip
SWISS_ROLL = Task(
    ROLL, (POINTS, POINTS),
    (_natural(6000), poisoned(0.1, (3000, None), (4000, 1e-3)),
     poisoned(0.2, (3000, None), (5000, 1e-3))),
    lr=0.0058, batch_size=None, clip=8.0, loss_bound=0.03, seeds=3, directions=100, cut=0.1,
    measured=POINTS, seconds=10,
)  # fmt: skip
TWO_CIRCLES = Task(
    CIRCLES, (130, 0),
    (_natural(4000), Variant("with ten points inside", (Stage(0.0, 4000),))),
    lr=1e-3, batch_size=None, clip=None, loss_bound=0.01, seeds=1, directions=32, cut=0.5,
    measured=130, seconds=12,
)  # fmt: skip
QUICK = (DIGITS, SWISS_ROLL, TWO_CIRCLES)
REAL = (
    Task(
        "svhn", (500, 300),
        (_natural(3000), poisoned(0.1, (4000, None), (2000, 2e-4)),
         poisoned(0.3, (4000, None), (2000, 2e-4))),
        lr=1e-3, batch_size=None, clip=None, loss_bound=0.01, seeds=3, directions=100, cut=0.6,
        measured=500, seconds=250,
    ),
    Task(
        "mnist", (500, 500),
        (_natural(3000), poisoned(0.1, (4000, None), (2000, 2e-4)),
         poisoned(0.3, (4000, None), (2000, 2e-4))),
        lr=1e-3, batch_size=None, clip=None, loss_bound=0.01, seeds=3, directions=100, cut=0.6,
        measured=500, seconds=250,
    ),
    Task(
        "cifar10", (1000, 1000), (_natural(2000), poisoned(0.3, (2000, None), (1000, 2e-4))),
        lr=1e-3, batch_size=64, clip=None, loss_bound=0.01, seeds=2, directions=32, cut=0.3,
        measured=128, seconds=2000,
    ),
)  # fmt: skip
TASKS = (*QUICK, *REAL)
NETWORKS = {
    "digits": "MLP 64-64-64-10", ROLL: "MLP 23-16-26-32-28-31, one logit",
    CIRCLES: "MLP of nine layers of 100", "svhn": "LeNet, three channels", "mnist": "LeNet",
    "cifar10": "ResNet20",
}  # fmt: skip


def task(name: str) -> Task:
    """A task by its name."""
    return next(each for each in (*QUICK, *REAL) if each.name == name)


Examples = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Sets:
    """What a network is trained with and tested on."""

    data: Examples
    poison: Examples | None
    test: Examples
    source: Source


@session_cached()
def sets(settings: Settings, name: str, variant: str) -> Sets:
    """The data of a task, on the session's device.

    Raises:
        MissingDataError: the data set is not found.
    """
    if name == ROLL:
        drawn = generator(SEED)
        parts = [roll(POINTS, drawn), roll(POINTS, drawn), roll(MOST_TEST, drawn)]
        found = _sets(settings, parts, None)
    elif name == CIRCLES:
        trapped = variant != GOOD
        found = _sets(settings, [circles(trapped), None, ring_test()], None)
    else:
        found = _of_images(settings, task(name))
    return found


def fidelity(settings: Settings, name: str) -> str:
    """How faithful the data of a task are; points are drawn as the work draws them."""
    if name in (ROLL, CIRCLES):
        return "reduced"
    return cell_fidelity(_images(settings, name).fidelity, whole=False)


def _sets(settings: Settings, parts: Sequence[Examples | None], source: Source | None) -> Sets:
    moved = [
        None if part is None else (part[0].to(settings.device), part[1].to(settings.device))
        for part in parts
    ]
    whole, held, test = moved
    assert whole is not None
    assert test is not None
    digest = sha256_of_parts(t.cpu().contiguous().numpy().data for t in whole)
    return Sets(whole, held, test, source or Source(f"{len(whole[0])} points, seed {SEED}", digest))


@session_cached()
def _images(settings: Settings, name: str) -> ImageSet:
    return data.load(name, "train", settings.data_root, download=settings.download)


def _of_images(settings: Settings, one: Task) -> Sets:
    """Training data, poison and test data, all from the training split."""
    found = _images(settings, one.name)
    count, held = one.sizes
    order = torch.randperm(len(found), generator=generator(SEED))[: count + held + MOST_TEST]
    x, y = _inputs(one.name, found.images[order]), found.labels[order]
    parts: list[Examples | None] = list(
        zip(x.split((count, held, len(x) - count - held)),
            y.split((count, held, len(x) - count - held)), strict=True)
    )  # fmt: skip
    return _sets(settings, parts, image_sets.source_of(found))


def _inputs(name: str, stored: Tensor) -> Tensor:
    """Images as the network sees them."""
    if name == "cifar10":
        return data.to_input(stored, **models.preprocessing("resnet20"))
    x = data.to_input(stored)
    if name == "digits":
        return F.adaptive_avg_pool2d(x[:, :, 4:-4, 4:-4], 8).flatten(1)
    return x


def roll(count: int, drawn: torch.Generator) -> Examples:
    """Two spirals: t = sqrt(U) 600 degrees, x = +-1.5 t (-cos t, sin t) + normal / 2."""
    y = torch.arange(count) % 2
    t = torch.rand(count, generator=drawn).sqrt() * math.radians(600)
    sign = (1 - 2 * y.float())[:, None]
    x = 1.5 * sign * torch.stack([-t * t.cos(), t * t.sin()], 1)
    return x + 0.5 * torch.randn(count, 2, generator=drawn), y


def _ring(radius: float, angles: Tensor) -> Tensor:
    return radius * torch.stack([angles.cos(), angles.sin()], 1)


def circles(trapped: bool) -> Examples:
    """Two circles of points, and ten of the outer class beside the inner circle if trapped."""
    parts = [
        (_ring(radius, torch.arange(count) * (2 * math.pi / count)), kind)
        for radius, count, kind in RINGS
    ]
    if trapped:
        radius, count, kind = TRAP
        between = (torch.arange(count) + 0.125) * (2 * math.pi / count)  # of the forty
        parts.append((_ring(radius, between), kind))
    y = [torch.full((len(x),), kind) for x, kind in parts]
    return torch.cat([x for x, _ in parts]), torch.cat(y)


def ring_test() -> Examples:
    """Points at random angles on both circles."""
    drawn = generator(SEED, 1)
    half = MOST_TEST // 2
    parts = [
        _ring(radius, torch.rand(half, generator=drawn) * 2 * math.pi) for radius, _, _ in RINGS
    ]
    return torch.cat(parts), torch.arange(2).repeat_interleave(half)


class OneLogit(nn.Module):
    """A network with one logit z, as logits (0, z) of two classes."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Map examples [N, d] to logits [N, 2]."""
        z = self.body(x)
        return torch.cat([torch.zeros_like(z), z], 1)


_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "digits": lambda: models.MLP(10, 64, (64, 64)),
    ROLL: lambda: OneLogit(models.MLP(1, 2, ROLL_WIDTHS[1:])),
    CIRCLES: lambda: models.MLP(2, 2, (100,) * 9),
    "svhn": lambda: models.LeNet(10, in_channels=3),
    "mnist": lambda: models.LeNet(10, padding=2),
    "cifar10": lambda: models.ResNet20(10),
}


def network(name: str, seed: int) -> nn.Module:
    """The untrained network of a task, torch's own initialisation."""
    with seeded(torch.device("cpu"), seed):
        return _NETWORKS[name]()
