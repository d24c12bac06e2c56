"""The study behind the recommended normalization: every candidate on every plane of Table 1.

Three kinds of cells. Planes: how far the loss rises, and how far the output moves at the edge, for
every network, mode and kind of axes. Minima: whether the plane still tells a sharp minimum from a
flat one. Rescaling: whether it is the same for a network that is the same function.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lla
from lla import data, landscape, models, probes, training
from paper_tables.engine.cells import Cell, Settings, SharedStep
from paper_tables.engine.profiles import PROFILES
from paper_tables.engine.records import Record, Source, config_hash
from paper_tables.exhibits.normalization.candidates import CANDIDATES, points
from paper_tables.exhibits.table1 import cells as table1
from paper_tables.inputs import lenet, networks
from paper_tables.inputs.networks import Network, State
from paper_tables.paper.explosion import MODES

__all__ = ["AXES", "CENTRED", "MINIMA", "RESCALINGS", "TABLE", "cells", "explore", "rescaled"]

TABLE = "normalization"
CENTRED = "centred"  # uniform in [-1/2, 1/2): what is left of the paper's axes without the mean
AXES = ("uniform", CENTRED, "normal", "hessian")
STEPS, POINTS = 40, 5
EXACT = PROFILES["paper"]  # whose eigenvectors are taken, at any profile's size

# Minima of LeNet by how they are trained: batch size, epochs, share of examples with random labels
# that are added. All three fit what they are trained on.
MINIMA: dict[str, dict[str, Any]] = {
    "small batch": {"batch_size": 64, "epochs": 15, "poison": 0.0},
    "large batch": {"batch_size": 1000, "epochs": 120, "poison": 0.0},
    "poisoned": {"batch_size": 64, "epochs": 40, "poison": 0.5},
}
BATCHNORM = ("resnet18", "mobilenet", "resnet20")  # both modes; dropout alone changes little
LARGE = 3.0  # networks of so many million parameters get one plane along random axes, others three
EXAMPLES, TRAININGS, PLANES, SEEN = 6000, 4, 4, 1000
RESCALINGS = ("layers", "filters")


def cells(settings: Settings) -> list[Cell]:
    """All cells of the study."""
    nets = [*networks.networks(settings.profile), networks.RESNET20]
    found = []
    for net in nets:
        for state in networks.STATES:
            weights = networks.origin(settings, net, state)
            if weights.fidelity is None or not _found(settings, net):
                continue  # Table 1 says why
            for mode in MODES if net.row in BATCHNORM else ("eval",):
                for axes in AXES:
                    for name, candidate in CANDIDATES.items():
                        if axes == CENTRED and name != "filter":
                            continue  # it is there to say what of the axes it is
                        if candidate.recalibrate and (mode == "train" or net.row not in BATCHNORM):
                            continue  # nothing to recalibrate
                        found.append(_plane_cell(settings, net, state, mode, axes, name))
    for minimum in MINIMA:
        found += [_minimum_cell(settings, minimum, name) for name in ("reference", *CANDIDATES)]
    return found + [
        _rescaling_cell(settings, kind, name) for kind in RESCALINGS for name in CANDIDATES
    ]


def _found(settings: Settings, net: Network) -> bool:
    """Whether there are images: only CIFAR-10's have no stand-in."""
    try:
        networks.data_config(settings, net, "random")
    except lla.errors.MissingDataError:
        return False
    return True


# --- planes


def _plane_cell(
    settings: Settings, net: Network, state: State, mode: str, axes: str, candidate: str
) -> Cell:
    weights = networks.origin(settings, net, state)
    profile = settings.profile
    config = {
        "model": net.name,
        "options": networks.options(net, networks.side(profile, net, state)),
        "state": state,
        **weights.config,
        **networks.data_config(settings, net, state),
        "mode": mode,
        "axes": axes,
        "candidate": candidate,
        "steps": STEPS,
        "points": POINTS,
        "seeds": 1 if axes == "hessian" or net.millions >= LARGE else 3,
        "dtype": table1.DTYPE,
    }
    if CANDIDATES[candidate].recalibrate:
        config["centre"] = "recalibrated"
    if axes == "hessian":
        config["eigen"] = table1.eigen(EXACT)
    return Cell(
        table=TABLE,
        row=net.row,
        column=f"{state}/{mode}/{axes}/{candidate}",
        name=_slug(net.row, state, mode, axes, candidate),
        metrics=("ratio", "nonfinite", "change"),
        config=config,
        fidelity=_study_fidelity(networks.fidelity(settings, net, state)),
        inputs=f"{weights.note}; {config['images']} x {config['side']} px of {config['data']}",
        compute=_plane,
        stage=0 if net.millions < LARGE else 2,
        seconds=config["seeds"] * (0.5 + net.millions / 10),
        shared=weights.shared,
    )


def _plane(cell: Cell, settings: Settings) -> list[Record]:
    config = cell.config
    net = networks.network(settings.profile, cell.row)
    state: State = config["state"]
    problem = table1.plane_problem(settings, net, state, config["mode"])
    found = []
    for seed in range(config["seeds"]):
        raw = _raw(settings, net, state, config["mode"], config["axes"], seed)
        found.append(explore(problem, config["candidate"], raw))
    inputs, loaded = networks.inputs(settings, net, state), networks.load(settings, net, state)
    facts: dict[str, Any] = {
        "data": inputs.source,
        "batch_sha256": inputs.sha256,
        "weights": loaded.weights,
        "n": len(found),
    }
    changes = np.concatenate([plane.changes for plane in found])
    known = changes[np.isfinite(changes)]
    ratios = "of the planes: " + ", ".join(f"{plane.ratio:.4g}" for plane in found)
    lost = None if len(known) else "no output at the edge is finite"
    return [
        cell.record("ratio", max(plane.ratio for plane in found), note=ratios, **facts),
        cell.record("nonfinite", float(sum(plane.nonfinite for plane in found)), **facts),
        cell.record("change", float(np.median(known)) if len(known) else 0.0, note=lost, **facts),
    ]


@functools.lru_cache(maxsize=4)
def _raw(settings: Settings, net: Network, state: State, mode: str, axes: str, seed: int) -> Tensor:
    """Two directions before any normalization."""
    if axes == "hessian":
        return table1.eigenvectors(settings, net, state, mode, EXACT)[0]
    theta = table1.plane_problem(settings, net, state, mode).theta()
    if axes == CENTRED:
        drawn = [probes.uniform(len(theta), theta, seed, i) - 0.5 for i in range(2)]
        return landscape.orthogonalized(torch.stack(drawn))
    return landscape.random_directions(theta, 2, axes, seed)  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class Explored:
    """What a plane of a candidate shows."""

    losses: np.ndarray  # [POINTS, POINTS] float64
    center: float
    ratio: float  # largest finite loss / max(loss at the centre, ln C)
    nonfinite: int  # points
    changes: np.ndarray  # relative change of the output at the points of the edge


def explore(problem: lla.Problem, candidate: str, raw: Tensor) -> Explored:
    """The loss and the change of the output on a plane of a candidate.

    Args:
        problem: at whose weights the plane is centred.
        candidate: one of `CANDIDATES`.
        raw: two directions [2, P] before normalization.
    """
    chosen = CANDIDATES[candidate]
    rows = torch.stack([chosen.scale(problem, direction) for direction in raw])
    line = torch.from_numpy(landscape.grid(STEPS)[landscape.nested(POINTS, STEPS)])
    grid = torch.cartesian_prod(line, line)
    edge = (grid.abs() == 0.5).any(1).numpy()
    ((theta, state),) = points(problem, chosen, rows, torch.zeros_like(grid[:1]))
    start, targets = _outputs(problem, theta, state)
    center = float(F.cross_entropy(start, targets))
    losses, changes = [], []
    for moved, state in points(problem, chosen, rows, grid):
        output, _ = _outputs(problem, moved, state)
        losses.append(float(F.cross_entropy(output, targets)))
        changes.append(float((output.double() - start.double()).norm() / start.double().norm()))
    loss, change = np.array(losses), np.array(changes)
    found = landscape.explosion(loss, center, start.shape[1])
    return Explored(
        losses=loss.reshape(POINTS, POINTS),
        center=center,
        ratio=found.ratio,
        nonfinite=found.nonfinite,
        changes=change[edge],
    )


def _outputs(
    problem: lla.Problem, theta: Tensor, state: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    outputs, targets = zip(*problem.outputs(theta, state), strict=True)
    return torch.cat(outputs), torch.cat(targets)


# --- minima


def _minimum_cell(settings: Settings, minimum: str, candidate: str) -> Cell:
    image_set = lenet.images(settings)
    config = {
        "model": "lenet",
        **_training_config(settings, minimum),
        "candidate": candidate,
        "trainings": TRAININGS,
        "planes": 0 if candidate == "reference" else PLANES,
        "examples": SEEN,
        "steps": STEPS,
        "points": POINTS,
        "axes": "normal",
        "mode": "eval",
        "dtype": table1.DTYPE,
    }
    metrics = ("top_eigenvalue", "loss", "test_accuracy") if candidate == "reference" else ("rise",)
    return Cell(
        table=TABLE,
        row="lenet",
        column=f"minima/{minimum}/{candidate}",
        name=_slug("lenet", minimum, candidate),
        metrics=metrics,
        config=config,
        fidelity=_study_fidelity("reduced" if image_set.name == "mnist" else "substitute"),
        inputs=f"LeNet trained {TRAININGS} times on {image_set.name}",
        compute=_reference if candidate == "reference" else _rise,
        stage=1,
        seconds=10,
        shared=SharedStep(f"training of {minimum} minima", 150, _train_all(minimum)),
    )


def _training_config(settings: Settings, minimum: str) -> dict[str, Any]:
    image_set = lenet.images(settings)
    chosen = MINIMA[minimum]
    examples = min(EXAMPLES, len(image_set) // 2)
    return {
        "data": image_set.name,
        "data_sha256": image_set.sha256,
        "training_examples": examples,
        "poisoned_examples": int(examples * chosen["poison"]),
        "epochs": chosen["epochs"],
        "training_batch_size": min(chosen["batch_size"], examples // 6),
        "lr": lenet.LR,
    }


@functools.lru_cache(maxsize=1)
def _examples(settings: Settings) -> tuple[Tensor, Tensor]:
    image_set = lenet.images(settings)
    (pair,) = data.batches(image_set, len(image_set), size=lenet.SIZE, device=settings.device)
    return pair


@functools.lru_cache(maxsize=16)
def _minimum(settings: Settings, minimum: str, seed: int) -> nn.Module:
    """LeNet in one minimum; the checkpoint is kept in the work folder."""
    config = _training_config(settings, minimum)
    x, y = _examples(settings)
    clean, poisoned = config["training_examples"], config["poisoned_examples"]
    labels = y[: clean + poisoned].clone()
    generator = torch.Generator().manual_seed(seed)
    labels[clean:] = torch.randint(0, 10, (poisoned,), generator=generator).to(labels)
    model = models.build("lenet", seed=seed).to(settings.device)
    key = config_hash({**config, "seed": seed, "device": settings.device.partition(":")[0]})
    training.train(
        model,
        (x[: clean + poisoned], labels),
        epochs=config["epochs"],
        batch_size=config["training_batch_size"],
        lr=config["lr"],
        seed=seed,
        checkpoint=settings.work / "weights" / f"minimum-{key}.pt",
        progress=settings.progress,
    )
    return model


def _train_all(minimum: str) -> Any:
    def run(settings: Settings) -> str:
        for seed in range(TRAININGS):
            _minimum(settings, minimum, seed)
        return f"{TRAININGS} networks"

    return run


def _seen(settings: Settings, minimum: str, seed: int) -> lla.Problem:
    """The loss of the first clean training examples, the same for every minimum."""
    x, y = _examples(settings)
    return lla.Problem(_minimum(settings, minimum, seed), [(x[:SEEN], y[:SEEN])])


def _minimum_of(cell: Cell) -> str:
    return cell.column.split("/")[1]


def _rise(cell: Cell, settings: Settings) -> list[Record]:
    rises = []
    for training_seed in range(TRAININGS):
        problem = _seen(settings, _minimum_of(cell), training_seed)
        found = []
        for seed in range(PLANES):
            raw = landscape.random_directions(problem.theta(), 2, "normal", seed)
            plane = explore(problem, cell.config["candidate"], raw)
            found.append(plane.losses.mean() - plane.center)
        rises.append(float(np.mean(found)))
    return [_mean(cell, "rise", rises, settings)]


def _reference(cell: Cell, settings: Settings) -> list[Record]:
    values: dict[str, list[float]] = {name: [] for name in cell.metrics}
    x, y = _examples(settings)
    rest = slice(-min(10_000, len(x) // 4), None)  # never trained on
    for seed in range(TRAININGS):
        problem = _seen(settings, _minimum_of(cell), seed)
        pairs = lla.top_eigenpairs(lla.HessianOperator(problem), 1, tol=1e-2, max_steps=100)
        values["top_eigenvalue"].append(float(pairs.values[0]))
        values["loss"].append(problem.loss().item())
        model = _minimum(settings, _minimum_of(cell), seed)
        values["test_accuracy"].append(100 * training.accuracy(model, x[rest], y[rest]))
    return [_mean(cell, metric, found, settings) for metric, found in values.items()]


def _mean(cell: Cell, metric: str, values: list[float], settings: Settings) -> Record:
    image_set = lenet.images(settings)
    stderr = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    source = Source(image_set.name, image_set.sha256)
    note = ", ".join(f"{value:.4g}" for value in values)
    return cell.record(
        metric, float(np.mean(values)), stderr, n=len(values), data=source, note=note
    )


# --- rescaling


def _rescaling_cell(settings: Settings, kind: str, candidate: str) -> Cell:
    net = networks.network(settings.profile, "lenet")
    found = models.find_pretrained(net.name, settings.data_root)
    state: State = "pretrained" if found.available else "random"
    weights = networks.origin(settings, net, state)
    config = {
        "model": net.name,
        "state": state,
        **weights.config,
        **networks.data_config(settings, net, state),
        "rescaled": kind,
        "candidate": candidate,
        "axes": "normal",
        "mode": "eval",
        "steps": STEPS,
        "points": POINTS,
        "seed": 0,
        "dtype": "float64",  # so that what is seen is the candidate and not rounding
    }
    return Cell(
        table=TABLE,
        row="lenet",
        column=f"rescaling/{kind}/{candidate}",
        name=_slug("lenet", kind, candidate),
        metrics=("difference",),
        config=config,
        fidelity=_study_fidelity("paper"),
        inputs=f"{weights.note}, and the same function with other weights",
        compute=_difference,
        seconds=3,
    )


def _difference(cell: Cell, settings: Settings) -> list[Record]:
    net, state = networks.network(settings.profile, "lenet"), cell.config["state"]
    inputs, loaded = networks.inputs(settings, net, state), networks.load(settings, net, state)
    pairs = [(x.double(), y) for x, y in inputs.pairs]
    model = copy.deepcopy(loaded.model).double()
    first, second = (
        lla.Problem(m, pairs) for m in (model, rescaled(model, cell.config["rescaled"]))
    )
    raw = landscape.random_directions(first.theta(), 2, "normal", 0)
    planes = [explore(problem, cell.config["candidate"], raw).losses for problem in (first, second)]
    difference = float(np.max(np.abs(planes[1] / planes[0] - 1)))
    facts: dict[str, Any] = {"data": inputs.source, "weights": loaded.weights}
    return [cell.record("difference", difference, batch_sha256=inputs.sha256, **facts)]


def rescaled(model: nn.Module, kind: str) -> nn.Module:
    """LeNet with other weights that is the same function, as far as rounding allows.

    Args:
        model: LeNet.
        kind: "layers", one factor a layer, of product 1, the biases included; or "filters", one
            factor for each output of a layer, which the next layer takes back.
    """
    model = copy.deepcopy(model)
    parts = dict(model.named_parameters())
    names = ("conv1", "conv2", "fc1", "fc2", "fc3")
    generator = torch.Generator().manual_seed(0)
    before = torch.ones(1, dtype=torch.float64)
    with torch.no_grad():
        for i, name in enumerate(names):
            weight, bias = parts[f"{name}.weight"], parts[f"{name}.bias"]
            outputs = 1 if kind == "layers" else len(weight)
            after = 10 ** (2 * torch.rand(outputs, generator=generator, dtype=torch.float64) - 1)
            if i == len(names) - 1:
                after = torch.ones(1, dtype=torch.float64)
            before, after = before.to(weight), after.to(weight)
            taken = before.repeat_interleave(weight.shape[1] // len(before))
            shape = (-1, *[1] * (weight.ndim - 1))
            weight.mul_(after.view(shape)).div_(taken.view(1, -1, *[1] * (weight.ndim - 2)))
            bias.mul_(after)
            before = after
    return model


def _study_fidelity(found: str | None) -> str | None:
    """No cell of the study is one of the paper's, but some stand on less."""
    return "reduced" if found == "paper" else found


def _slug(*parts: str) -> str:
    return "-".join(part.replace(", ", "-").replace(" ", "-") for part in parts)
