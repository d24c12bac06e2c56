"""The training runs of section 4: accuracy, loss and criteria along them, on two data sets.

Each epoch and side has a cell. A side is the data set that the network was trained on, or the other
one. What needs few images and no Hessian product, the accuracy on 64 images and kappa of the last
layer, has a cell beside that of the criteria: it is what a criterion has to beat.
"""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import nn

import lla
from lla import data, models
from lla.data import ImageSet
from lla.errors import InputError
from lla.estimate import Estimate
from lla.hessian.products.routes import RouteName
from lla.problem import Precision
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.fidelity import cell_fidelity
from paper_tables.engine.profiles import PAPER_EPOCHS, PROFILES
from paper_tables.engine.records import Record
from paper_tables.exhibits.generalization.runs import (
    FEW_ACCURACY,
    OWN_TEST,
    SIDES,
    TABLE,
    pair_and_side,
)
from paper_tables.inputs import image_sets, pair_training, pairs
from paper_tables.inputs.image_sets import Batches
from paper_tables.inputs.pairs import PAIRS, Images, Pair
from paper_tables.measure import spectra
from paper_tables.measure.checks import check_criteria
from paper_tables.measure.shares import percent

CURVE = ("accuracy", "loss")  # over all images of a side, as `_over_all` gives them
HESSIAN = (*(m for m in spectra.PLAIN if m != "loss"), "trace", "top_eigenvalue")
CHEAP = (FEW_ACCURACY, "kappa")
FEW = 64  # images of that accuracy: a fixed number, that of the paper's batches of pictures
KAPPA_BATCHES, KAPPA_IMAGES = 4, 256  # kappa has a closed form; batches give its error bar
ROUTE: RouteName = "linearized"  # fixed: routes round differently
SECONDS = {"lenet": 1e-4, "resnet20": 8e-3}  # per image and product, measured on 2 CPU cores


def cells(settings: Settings) -> list[Cell]:
    """All cells of the runs: criteria at a few epochs, accuracy and loss at more."""
    found = []
    for pair in PAIRS:
        reason = pair_training.missing(settings, pair)
        if reason:
            found += [_cell(pair, side, "", ("accuracy", "kh05")).absent(reason) for side in SIDES]
            continue
        runs = settings.profile.runs
        every = pair_training.measured_epochs(runs.epochs, runs.curve)
        some = pair_training.measured_epochs(runs.epochs, runs.measured)
        for side in SIDES:
            found += [_curve_cell(settings, pair, side, epoch) for epoch in sorted({*every, *some})]
            found += [_criteria_cell(settings, pair, side, epoch) for epoch in some]
            found += [_cheap_cell(settings, pair, side, epoch) for epoch in some]
    return found


def _cell(pair: Pair, side: str, suffix: str, metrics: tuple[str, ...]) -> Cell:
    name = f"{pair.row}-{pair.name}-{side}{suffix}"
    column = f"{pair.name}/{side}"
    return Cell(TABLE, pair.row, column, name, metrics, {}, None, "", stage=2)


def _begun(settings: Settings, pair: Pair, side: str, epoch: int) -> Cell:
    found, runs = pairs.images(settings, pair), settings.profile.runs
    image_set = _side(found, side)
    config = pair_training.config_of(settings, pair, epoch)
    # a measurement on the training images does not depend on the other images
    fidelity = found.train.fidelity if side == "training" else found.fidelity
    return dataclasses.replace(
        _cell(pair, side, f"-epoch{epoch:04d}", ()),
        config={
            **config,
            "dtype": _precision(settings, pair),
            "side": side,
            **image_sets.config_of(image_set),
        },
        fidelity=cell_fidelity(fidelity, whole=runs.epochs >= PAPER_EPOCHS),
        inputs=f"{pair.row} trained on {found.train.name}, epoch {epoch} of {runs.epochs}, on "
        f"{image_set.name} {image_set.split}",
        memory=2 * 2**30,
        shared=pair_training.step(settings, pair),
    )


def _precision(settings: Settings, pair: Pair) -> Precision:
    """The type that a run is measured in: float64 for LeNet trained as long as in the paper.

    Its loss comes down to 1e-8 and less, where most of a product in float32 is rounding.
    """
    long = pair.row == "lenet" and settings.profile.runs.epochs >= PAPER_EPOCHS
    return "float64" if long else "float32"


def _side(found: Images, side: str) -> ImageSet:
    return found.train if side == "training" else found.other


def _curve_cell(settings: Settings, pair: Pair, side: str, epoch: int) -> Cell:
    begun = _begun(settings, pair, side, epoch)
    found = pairs.images(settings, pair)
    own_test = side == "training" and found.test is not None
    return dataclasses.replace(
        begun,
        name=f"{begun.name}-accuracy",
        metrics=(*CURVE, OWN_TEST) if own_test else CURVE,
        compute=_compute_curve,
        seconds=len(_side(found, side)) * pair_training.SECONDS[pair.row] / 3,
    )


def _criteria_cell(settings: Settings, pair: Pair, side: str, epoch: int) -> Cell:
    begun = _begun(settings, pair, side, epoch)
    image_set = _side(pairs.images(settings, pair), side)
    runs = settings.profile.runs
    wanted = runs.batch_size if pair.row == "lenet" else max(1, runs.batch_size // 8)
    count, size = runs.batches, min(wanted, len(image_set) // runs.batches)
    paper = PROFILES["paper"].runs
    as_the_papers = (runs.steps, runs.batch_size) == (paper.steps, paper.batch_size)
    config = {
        **begun.config,
        **spectra.criteria_config("eval", runs.steps, runs.probes, ROUTE),
        "batches": count,
        "batch_size": size,
        "seed": settings.profile.seed,
    }
    whole = as_the_papers and runs.probes >= paper.probes
    return dataclasses.replace(
        begun,
        metrics=HESSIAN,
        config=config,
        fidelity=cell_fidelity(begun.fidelity, whole=whole),
        inputs=f"{begun.inputs}, {count} x {size} images, {runs.probes} probes, m {runs.steps}",
        compute=_compute_criteria,
        seconds=2 + count * size * runs.probes * runs.steps * SECONDS[pair.row],
    )


def _cheap_cell(settings: Settings, pair: Pair, side: str, epoch: int) -> Cell:
    begun = _begun(settings, pair, side, epoch)
    count = len(_side(pairs.images(settings, pair), side))
    config = {
        **begun.config,
        "mode": "eval",
        "images": min(FEW, count),
        "kappa": {
            "layer": "last",
            "batches": KAPPA_BATCHES,
            "batch_size": min(KAPPA_IMAGES, count // KAPPA_BATCHES),
        },
        "seed": settings.profile.seed,
    }
    return dataclasses.replace(
        begun,
        name=f"{begun.name}-cheap",
        metrics=CHEAP,
        config=config,
        compute=_compute_cheap,
        seconds=1,
    )


def _pair(cell: Cell) -> Pair:
    name, _ = pair_and_side(cell.column)
    return next(pair for pair in PAIRS if (pair.row, pair.name) == (cell.row, name))


def _compute_curve(cell: Cell, settings: Settings) -> list[Record]:
    pair = _pair(cell)
    found = pairs.images(settings, pair)
    side = _side(found, cell.config["side"])
    model, weights = pair_training.at_epoch(settings, pair, cell.config["epoch"])
    model.to(getattr(torch, cell.config["dtype"]))
    values = [(side, estimate) for estimate in _over_all(settings, cell.row, model, side)]
    if OWN_TEST in cell.metrics:
        assert found.test is not None
        accuracy, _ = _over_all(settings, cell.row, model, found.test)
        values.append((found.test, accuracy))
    facts = {"stderr_kind": "examples", "weights": weights}
    return [
        cell.estimated(metric, estimate, data=image_sets.source_of(image_set), **facts)
        for metric, (image_set, estimate) in zip(cell.metrics, values, strict=True)
    ]


def _compute_cheap(cell: Cell, settings: Settings) -> list[Record]:
    pair, config = _pair(cell), cell.config
    side = _side(pairs.images(settings, pair), config["side"])
    model, weights = pair_training.at_epoch(settings, pair, config["epoch"])
    model.to(getattr(torch, config["dtype"])).eval()

    def draw(size: int, count: int) -> Batches:
        return image_sets.draw(settings, pair.row, side, size, count, config["seed"])

    few = draw(config["images"], 1)
    of_kappa = draw(config["kappa"]["batch_size"], config["kappa"]["batches"])
    cheap = {"accuracy": _accuracy(model, few), "kappa": _kappa(model, of_kappa)}
    return [
        cell.estimated(metric, estimate, stderr_kind=kind, **drawn.facts(weights))
        for metric, estimate, kind, drawn in (
            (FEW_ACCURACY, cheap["accuracy"], "examples", few),
            ("kappa", cheap["kappa"], "batches", of_kappa),
        )
    ]


@torch.no_grad()
def _accuracy(model: nn.Module, drawn: Batches) -> Estimate:
    ((x, y),) = drawn.pairs
    right = model(x.to(next(model.parameters()).dtype)).argmax(1) == y
    return percent(float(right.double().mean()), len(y))


def _kappa(model: nn.Module, drawn: Batches) -> Estimate:
    """Relative flatness of the last layer, the only one that has a closed form in every network."""
    last = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
    dtype = next(model.parameters()).dtype
    first, *more = [(x.to(dtype), y) for x, y in drawn.pairs]
    # derivatives are checked once a model, not once a batch
    found = [lla.flatness(model, [first], last, method="closed")]
    found += [lla.flatness(model, [pair], last, method="closed", check=False) for pair in more]
    values = [flatness[last].kappa.value for flatness in found]
    return Estimate.of(values, 0)


@torch.no_grad()
def _over_all(
    settings: Settings, row: str, model: nn.Module, image_set: ImageSet
) -> tuple[Estimate, Estimate]:
    """Accuracy and mean loss over all images of a set; errors as if these were a sample."""
    model.eval()
    dtype = next(model.parameters()).dtype
    right, losses = [], []
    for images, labels in zip(
        image_set.images.split(512), image_set.labels.split(512), strict=True
    ):
        x = data.to_input(images, device=settings.device, **models.preprocessing(row))
        y = labels.to(settings.device)
        logits = model(x.to(dtype))
        right.append(logits.argmax(1) == y)
        losses.append(F.cross_entropy(logits, y, reduction="none"))
    n, loss = len(image_set), torch.cat(losses).double()
    return (
        percent(float(torch.cat(right).double().mean()), n),
        Estimate(float(loss.mean()), float(loss.std()) / math.sqrt(n), n, 0),
    )


def _compute_criteria(cell: Cell, settings: Settings) -> list[Record]:
    pair, config = _pair(cell), cell.config
    image_set = _side(pairs.images(settings, pair), config["side"])
    model, weights = pair_training.at_epoch(settings, pair, config["epoch"])
    batches = image_sets.draw(
        settings, pair.row, image_set, config["batch_size"], config["batches"], config["seed"]
    )
    criteria = _criteria(cell, settings, model, batches)
    check_criteria(criteria)
    facts = batches.facts(weights)
    found = spectra.criteria_records(cell, settings, criteria, keep=False, **facts)
    found = [record for record in found if record.metric in cell.metrics]
    facts |= {
        "stderr_kind": criteria.stderr_kind,
        "route": criteria.route,
        "matvecs": criteria.matvecs,
    }
    more = {
        "trace": [s.size * float(s.moment(1).mean()) for s in criteria.spectra],
        "top_eigenvalue": [float(s.eigenvalues.max(1).mean()) for s in criteria.spectra],
    }
    for metric, samples in more.items():
        found.append(cell.estimated(metric, Estimate.of(samples, criteria.matvecs), **facts))
    return found


def _criteria(cell: Cell, settings: Settings, model: nn.Module, batches: Batches) -> lla.Criteria:
    """The criteria by the cell's route, or by double backward if the route fails its check.

    Where almost every image is fitted, only rounding of the softmax is left of the loss, and the
    routes differ in float32; double backward is what the others are checked against.
    """
    try:
        return spectra.measured(settings, model, batches.pairs, cell.config)
    except InputError:
        return spectra.measured(settings, model, batches.pairs, cell.config, route="retained")
