"""The study behind the recommended normalization: every candidate on every plane of Table 1.

Three kinds of cells. Planes: how far the loss rises, and how far the output moves at the edge, for
every network, mode and kind of axes. Minima: whether the plane still tells a sharp minimum from a
flat one. Rescaling: whether it is the same for a network that is the same function.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import lla
from lla import data, landscape, models, probes
from lla.errors import MissingDataError
from lla.estimate import Estimate
from lla.training import accuracy
from paper_tables.engine.cells import Cell, Settings, SharedStep
from paper_tables.engine.fidelity import cell_fidelity
from paper_tables.engine.profiles import PROFILES
from paper_tables.engine.records import Record
from paper_tables.engine.session import session_cached
from paper_tables.exhibits.normalization.candidates import (
    CANDIDATES,
    POINTS,
    STEPS,
    candidate_plane,
)
from paper_tables.exhibits.normalization.design import (
    AXES,
    CENTRED,
    MINIMA,
    RESCALINGS,
    TABLE,
    parts_of,
)
from paper_tables.inputs import image_sets, lenet, networks, training
from paper_tables.inputs.networks import Network, State
from paper_tables.measure import planes
from paper_tables.paper.explosion import MODES

EXACT = PROFILES["paper"]  # gives the settings of eigenvectors in every profile

BATCHNORM = ("resnet18", "mobilenet", "resnet20")  # both modes; dropout alone changes little
LARGE = 3.0  # million parameters: from here on one plane along random axes, below it three
EXAMPLES, TRAININGS, PLANES, SEEN = 6000, 4, 4, 1000


def cells(settings: Settings) -> list[Cell]:
    """All cells of the study."""
    nets = [*networks.networks(settings.profile), networks.RESNET20]
    found = []
    for net in nets:
        for state in networks.STATES:
            weights = networks.origin(settings, net, state)
            if weights.fidelity is None or not _found(settings, net):
                continue  # Table 1 gives the reason
            for mode in MODES if net.row in BATCHNORM else ("eval",):
                for axes in AXES:
                    for name, candidate in CANDIDATES.items():
                        if axes == CENTRED and name != "filter":
                            continue  # these axes only show the cause of explosions
                        if candidate.recalibrate and (mode == "train" or net.row not in BATCHNORM):
                            continue  # nothing to recalibrate
                        found.append(_plane_cell(settings, net, state, mode, axes, name))
    names = ("reference", *CANDIDATES)
    found += [_minimum_cell(settings, minimum, name) for minimum in MINIMA for name in names]
    found += [_rescaling_cell(settings, kind, name) for kind in RESCALINGS for name in CANDIDATES]
    return found


def _found(settings: Settings, net: Network) -> bool:
    """Whether the network's images were found; only CIFAR-10 has no stand-in."""
    try:
        networks.config_of(settings, net, "random")
    except MissingDataError:
        return False
    return True


def _cell(
    row: str, parts: tuple[str, ...], config: dict[str, Any], fidelity: str | None, **more: Any
) -> Cell:
    """A cell of the study; it computes less than the paper, so it is `reduced` at best.

    Args:
        row: the network.
        parts: of the column.
        config: without the grid, which all cells share.
        fidelity: of its inputs.
        more: further fields.
    """
    column = "/".join(parts)
    name = "-".join((row, *parts_of(column)[1:])).replace(", ", "-").replace(" ", "-")
    config = {**config, "candidate": parts[-1], "steps": STEPS, "points": POINTS}
    fidelity = cell_fidelity(fidelity, whole=False)
    return Cell(TABLE, row, column, name, config=config, fidelity=fidelity, **more)


# --- planes


def _plane_cell(
    settings: Settings, net: Network, state: State, mode: str, axes: str, candidate: str
) -> Cell:
    weights = networks.origin(settings, net, state)
    config = networks.config_of(settings, net, state) | {
        "mode": mode,
        "axes": axes,
        "seeds": 1 if axes == "hessian" or net.millions >= LARGE else 3,
        "dtype": planes.DTYPE,
    }
    if CANDIDATES[candidate].recalibrate:
        config["centre"] = "recalibrated"
    if axes == "hessian":
        config["eigen"] = planes.eigen_config(EXACT)
    return _cell(
        net.row,
        (state, mode, axes, candidate),
        metrics=("ratio", "nonfinite", "change"),
        compute=_plane,
        config=config,
        fidelity=networks.fidelity(settings, net, state),
        inputs=f"{weights.note}; {config['images']} x {config['side']} px of {config['data']}",
        stage=0 if net.millions < LARGE else 2,
        seconds=config["seeds"] * (0.5 + net.millions / 10),
        shared=weights.shared,
    )


def _plane(cell: Cell, settings: Settings) -> list[Record]:
    config = cell.config
    net = networks.network(settings.profile, cell.row)
    state: State = config["state"]
    problem = planes.plane_problem(settings, net, state, config["mode"])
    found = []
    for seed in range(config["seeds"]):
        raw = _raw(settings, net, state, config["mode"], config["axes"], seed)
        found.append(candidate_plane(problem, config["candidate"], raw))
    weights = networks.load(settings, net, state).weights
    facts = {**networks.batch(settings, net, state).facts(weights), "n": len(found)}
    changes = np.concatenate([plane.changes for plane in found])
    known = changes[np.isfinite(changes)]
    ratios = "of the planes: " + ", ".join(f"{plane.ratio:.4g}" for plane in found)
    lost = None if len(known) else "no output at the edge is finite"
    return [
        cell.record("ratio", max(plane.ratio for plane in found), note=ratios, **facts),
        cell.record("nonfinite", float(sum(plane.nonfinite for plane in found)), **facts),
        cell.record("change", float(np.median(known)) if len(known) else 0.0, note=lost, **facts),
    ]


@session_cached(size=4)
def _raw(settings: Settings, net: Network, state: State, mode: str, axes: str, seed: int) -> Tensor:
    """Two directions before any normalization."""
    if axes == "hessian":
        return planes.eigenvectors(settings, net, state, mode, EXACT)[0]
    theta = planes.plane_problem(settings, net, state, mode).theta()
    if axes == CENTRED:
        drawn = [probes.uniform(len(theta), theta, seed, i) - 0.5 for i in range(2)]
        return landscape.orthogonalized(torch.stack(drawn))
    return landscape.random_directions(theta, 2, axes, seed)  # type: ignore[arg-type]


# --- minima


def _minimum_cell(settings: Settings, minimum: str, candidate: str) -> Cell:
    image_set, reference = lenet.images(settings), candidate == "reference"
    train = partial(_train_all, minimum=minimum)
    config = {
        "model": "lenet",
        **_training_config(settings, minimum),
        "trainings": TRAININGS,
        "planes": 0 if reference else PLANES,
        "examples": SEEN,
        "axes": "normal",
        "mode": "eval",
        "dtype": planes.DTYPE,
    }
    return _cell(
        "lenet",
        ("minima", minimum, candidate),
        metrics=("top_eigenvalue", "loss", "test_accuracy") if reference else ("rise",),
        compute=_reference if reference else _rise,
        config=config,
        fidelity=image_set.fidelity,
        inputs=f"LeNet trained {TRAININGS} times on {image_set.name}",
        stage=1,
        seconds=10,
        shared=SharedStep(f"training of {minimum} minima", 150, train),
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
        "lr": training.LR,
    }


@session_cached(size=1)
def _examples(settings: Settings) -> tuple[Tensor, Tensor]:
    image_set = lenet.images(settings)
    (pair,) = data.batches(image_set, len(image_set), size=lenet.SIZE, device=settings.device)
    return pair


@session_cached(size=16)
def _minimum(settings: Settings, minimum: str, seed: int) -> nn.Module:
    """LeNet in one minimum; the checkpoint is kept in the work folder."""
    config = _training_config(settings, minimum)
    x, y = _examples(settings)
    clean, poisoned = config["training_examples"], config["poisoned_examples"]
    labels = y[: clean + poisoned].clone()
    generator = torch.Generator().manual_seed(seed)
    labels[clean:] = torch.randint(0, 10, (poisoned,), generator=generator).to(labels)
    model = models.build("lenet", seed=seed).to(settings.device)
    training.train(
        settings,
        model,
        (x[: clean + poisoned], labels),
        training.checkpoint(settings, "minimum", {**config, "seed": seed}),
        config["epochs"],
        batch_size=config["training_batch_size"],
        lr=config["lr"],
        seed=seed,
    )
    return model


def _train_all(settings: Settings, minimum: str) -> str:
    for seed in range(TRAININGS):
        _minimum(settings, minimum, seed)
    return f"{TRAININGS} networks"


def _seen(settings: Settings, minimum: str, seed: int) -> lla.Problem:
    """The loss of the first clean training examples, the same for every minimum."""
    x, y = _examples(settings)
    return lla.Problem(_minimum(settings, minimum, seed), [(x[:SEEN], y[:SEEN])])


def _rise(cell: Cell, settings: Settings) -> list[Record]:
    _, minimum, candidate = parts_of(cell.column)
    rises = []
    for training_seed in range(TRAININGS):
        problem = _seen(settings, minimum, training_seed)
        found = []
        for seed in range(PLANES):
            raw = landscape.random_directions(problem.theta(), 2, "normal", seed)
            plane = candidate_plane(problem, candidate, raw)
            found.append(plane.losses.mean() - plane.center)
        rises.append(float(np.mean(found)))
    return [_mean(cell, "rise", rises, settings)]


def _reference(cell: Cell, settings: Settings) -> list[Record]:
    _, minimum, _ = parts_of(cell.column)
    values: dict[str, list[float]] = {name: [] for name in cell.metrics}
    x, y = _examples(settings)
    rest = slice(-min(10_000, len(x) // 4), None)  # never trained on
    for seed in range(TRAININGS):
        problem = _seen(settings, minimum, seed)
        pairs = lla.top_eigenpairs(lla.HessianOperator(problem), 1, tol=1e-2, max_steps=100)
        values["top_eigenvalue"].append(float(pairs.values[0]))
        values["loss"].append(problem.loss().item())
        model = _minimum(settings, minimum, seed)
        values["test_accuracy"].append(100 * accuracy(model, x[rest], y[rest]))
    return [_mean(cell, metric, found, settings) for metric, found in values.items()]


def _mean(cell: Cell, metric: str, values: list[float], settings: Settings) -> Record:
    image_set = lenet.images(settings)
    note = ", ".join(f"{value:.4g}" for value in values)
    source = image_sets.source_of(image_set)
    return cell.estimated(metric, Estimate.of(values, 0), data=source, note=note)


# --- rescaling


def _rescaling_cell(settings: Settings, kind: str, candidate: str) -> Cell:
    net = networks.network(settings.profile, "lenet")
    found = models.find_pretrained(net.name, settings.data_root)
    state: State = "pretrained" if found.available else "random"
    config = networks.config_of(settings, net, state) | {
        "rescaled": kind,
        "axes": "normal",
        "mode": "eval",
        "seed": 0,
        "dtype": "float64",  # so that rounding does not hide the candidate's effect
    }
    del config["options"]  # LeNet has none
    note = networks.origin(settings, net, state).note
    return _cell(
        "lenet",
        ("rescaling", kind, candidate),
        metrics=("difference",),
        compute=_difference,
        config=config,
        fidelity="paper",
        inputs=f"{note}, and the same function with other weights",
        seconds=3,
    )


def _difference(cell: Cell, settings: Settings) -> list[Record]:
    net, state = networks.network(settings.profile, "lenet"), cell.config["state"]
    batch, loaded = networks.batch(settings, net, state), networks.load(settings, net, state)
    pairs = [(x.double(), y) for x, y in batch.pairs]
    model = copy.deepcopy(loaded.model).double()
    first, second = (
        lla.Problem(m, pairs) for m in (model, rescaled(model, cell.config["rescaled"]))
    )
    raw = landscape.random_directions(first.theta(), 2, "normal", 0)
    losses = [candidate_plane(p, cell.config["candidate"], raw).losses for p in (first, second)]
    difference = float(np.max(np.abs(losses[1] / losses[0] - 1)))
    return [cell.record("difference", difference, **batch.facts(loaded.weights))]


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
