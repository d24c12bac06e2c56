"""Cells of the formulas: against explicit Hessians, and under changes that keep the function."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from lla.layers.flatness import flatness
from lla.layers.flatness_result import LayerFlatness
from lla.seeding import generator
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.records import Record
from paper_tables.exhibits.flatness.architectures import ARCHITECTURES, FOLLOWED, build

TABLE = "flatness_identities"
# quantity -> relative difference from the explicit Hessian, the largest over the layers
QUANTITIES = ("trace", "trace_bias", "kappa", "kappa_diag", "table")
EXACT = tuple(f"{name}_error" for name in QUANTITIES)
INVARIANT = ("output_change", "kappa_change", "trace_error")
CHANNELS = ("next_ratio", "next_ratio_normalized")
FACTOR = 10.0  # of a layer as a whole
LARGEST = 2500  # weights of a layer whose Hessian is made explicitly
KINDS = ("layer scaled", "filters scaled")
SEED = 0


def cells(_: Settings) -> list[Cell]:
    """One cell for each architecture, and for each change of those where it can be made."""
    explicit = [_cell(name, "explicit Hessian", EXACT, _identities, 1) for name in ARCHITECTURES]
    scaled = [
        _cell(name, kind, INVARIANT + (CHANNELS if kind == KINDS[1] else ()), _invariance, 1)
        for name in FOLLOWED
        for kind in KINDS
    ]
    return [*explicit, *scaled]


def _cell(row: str, column: str, metrics: tuple[str, ...], compute: Any, seconds: float) -> Cell:
    name = f"{row}-{column}".replace(" ", "-").lower()
    config = {"architecture": row, "check": column, "seed": SEED, "dtype": "float64"}
    if column != "explicit Hessian":
        config["factor"] = FACTOR if column == KINDS[0] else "log-normal"
    return Cell(
        table=TABLE,
        row=row,
        column=column,
        name=name,
        metrics=metrics,
        config=config,
        fidelity="reduced",  # what is checked holds for every network and all data
        inputs=f"a small network of the kind {row}, with random weights, on noise",
        compute=compute,
        seconds=seconds,
    )


def _identities(cell: Cell, _: Settings) -> list[Record]:
    model, batch = build(cell.row, SEED)
    found = flatness(model, batch)
    errors: dict[str, list[float]] = {name: [] for name in QUANTITIES}
    measured = []
    for layer in found:
        module = model.get_submodule(layer.name)
        if module.weight.numel() > LARGEST:  # type: ignore[operator]
            continue
        for name, value in _compared(model, batch, layer).items():
            errors[name].append(value)
        measured.append(f"{layer.name} ({layer.method})")
    note = f"largest over the layers {', '.join(measured)}"
    return [
        cell.record(metric, max(errors[name]), n=len(measured), note=note)
        for metric, name in zip(EXACT, QUANTITIES, strict=True)
    ]


def _compared(
    model: nn.Module, batch: tuple[Tensor, Tensor], layer: LayerFlatness
) -> dict[str, float]:
    """Relative differences of a layer's numbers from those of its explicit Hessian."""
    H = explicit_hessian(model, batch, f"{layer.name}.weight")
    table = torch.einsum("fjgj->fg", H)
    W: Tensor = model.get_submodule(layer.name).weight.detach().flatten(1)  # type: ignore[operator]
    bias = explicit_hessian(model, batch, f"{layer.name}.bias")[:, 0, :, 0]
    assert layer.table is not None
    assert layer.trace_bias is not None
    expected = {
        "trace": float(table.trace()),
        "trace_bias": float(bias.trace()),
        "kappa": float((W @ W.T * table).sum()),
        "kappa_diag": float((W.square().sum(1) * table.diagonal()).sum()),
    }
    errors = {name: abs(getattr(layer, name).value / value - 1) for name, value in expected.items()}
    off = torch.from_numpy(layer.table) - table
    return {**errors, "table": float(off.norm() / table.norm())}


def explicit_hessian(model: nn.Module, batch: tuple[Tensor, Tensor], name: str) -> Tensor:
    """The Hessian of the mean cross-entropy by one parameter, by double backward.

    Args:
        model: the network.
        batch: inputs and labels.
        name: of the parameter, with F rows.

    Returns:
        [F, d, F, d]; d is 1 for a bias.
    """
    x, y = batch
    value = model.get_parameter(name).detach()

    def loss(p: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(model, {name: p}, (x,)), y)

    H: Tensor = torch.autograd.functional.hessian(loss, value)
    rows = (len(value), value[0].numel())
    return H.reshape(*rows, *rows)


def _invariance(cell: Cell, _: Settings) -> list[Record]:
    model, batch = build(cell.row, SEED)
    values: dict[str, list[float]] = {name: [] for name in cell.metrics}
    notes = []
    for i, (name, following) in enumerate(FOLLOWED[cell.row]):
        count = len(model.get_submodule(name).weight)  # type: ignore[arg-type]
        factors = factors_of(cell.column, count, i)
        other = rescaled(model, name, following, factors)
        for metric, value in _changes(model, other, batch, name, factors).items():
            values[metric].append(value)
        if cell.column == KINDS[1] and isinstance(model.get_submodule(following), nn.Conv2d):
            plain, normalized = (
                _kappa(other, batch, following, n) / _kappa(model, batch, following, n)
                for n in (False, True)
            )
            values["next_ratio"].append(plain)
            values["next_ratio_normalized"].append(abs(normalized - 1))
            notes.append(f"{following} {plain:.4g}")
    found = []
    for metric, samples in values.items():
        farthest = max(samples, key=lambda v: abs(math.log(v))) if metric == "next_ratio" else None
        value = max(samples) if farthest is None else farthest
        note = f"kappa after / before: {', '.join(notes)}" if metric == "next_ratio" else None
        found.append(cell.record(metric, value, n=len(samples), note=note))
    return found


def factors_of(kind: str, count: int, stream: int) -> Tensor:
    """A factor for each filter of a layer: one for all of them, or log-normal ones."""
    if kind == KINDS[0]:
        return torch.full((count,), FACTOR, dtype=torch.float64)
    return torch.randn(count, generator=generator(SEED, stream), dtype=torch.float64).exp()


@torch.no_grad()
def rescaled(model: nn.Module, name: str, following: str, factors: Tensor) -> nn.Module:
    """A copy with the filters of a layer scaled and those after it divided: the same function.

    Args:
        model: its layers have only ReLU and pooling between them.
        name: of the layer.
        following: of the next one.
        factors: one a filter [F], positive.
    """
    other = copy.deepcopy(model)
    first, second = other.get_submodule(name), other.get_submodule(following)
    weight: Tensor = first.weight  # type: ignore[assignment]
    weight.mul_(factors.reshape(-1, *[1] * (weight.ndim - 1)))
    first.bias.mul_(factors)  # type: ignore[operator]
    after: Tensor = second.weight  # type: ignore[assignment]
    # of a convolution before a flattening each filter feeds several inputs
    after.view(len(after), len(factors), -1).div_(factors[:, None])
    return other


def _changes(
    model: nn.Module,
    other: nn.Module,
    batch: tuple[Tensor, Tensor],
    name: str,
    factors: Tensor,
) -> dict[str, float]:
    """What a rescaling changes: relative change of output, kappa, and of T_ff lambda_f^2."""
    x, _ = batch
    with torch.no_grad():
        before, after = model(x), other(x)
    old, new = (flatness(m, batch, name)[name] for m in (model, other))
    assert old.table is not None
    assert new.table is not None
    expected = torch.from_numpy(old.table).diagonal() / factors.square()
    off = torch.from_numpy(new.table).diagonal() - expected
    return {
        "output_change": float((after - before).norm() / before.norm()),
        "kappa_change": abs(new.kappa.value / old.kappa.value - 1),
        "trace_error": float(off.abs().sum() / expected.sum()),
    }


def _kappa(
    model: nn.Module, batch: tuple[Tensor, Tensor], name: str, normalize_inputs: bool
) -> float:
    return flatness(model, batch, name, normalize_inputs=normalize_inputs)[name].kappa.value
