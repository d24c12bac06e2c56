"""BatchNorm statistics for other weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lla.batches import Batch, Batches
from lla.division import divided
from lla.errors import InputError
from lla.problem import Problem


def statistics(network: nn.Module) -> dict[str, _BatchNorm]:
    """The BatchNorm layers that normalise with stored statistics, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }


class Calibration(NamedTuple):
    """The batches from which a process estimates statistics.

    Attributes:
        batches: of this process.
        idle: whether they count for nothing, because it has none of its own, see `lla.division`.
    """

    batches: Batches
    idle: bool = False

    @classmethod
    def of(cls, problem: Problem, batches: Any) -> Calibration:
        """From batches, which several processes share; True means the problem's own.

        Raises:
            InputError: see `lla.batches.Batches`.
        """
        if batches is True:
            return cls(problem.own_batches, problem.division.idle)
        found, division = divided(batches, problem.device, problem.ranks, whole=False)
        return cls(found, division.idle)


def recalibrated(
    problem: Problem, theta: Tensor, batches: Iterable[Batch], idle: bool = False
) -> dict[str, Tensor]:
    """BatchNorm's running mean and variance at other weights, estimated from batches.

    The layers normalise with the statistics of each batch while the statistics are estimated;
    those of several batches are averaged, weighted by size. (Izmailov et al., 2018, section 3.2,
    estimate them in this way after averaging weights.)

    Args:
        problem: in eval mode; dropout stays off.
        theta: the weights [P].
        batches: their targets are not used. Processes that measure together each give theirs.
        idle: the batches count for nothing, see `Calibration`.

    Returns:
        New buffers by name; empty without BatchNorm.

    Raises:
        InputError: the model rejects a batch, such as one with a single value for each channel.
    """
    if problem.ranks.count == 1:
        return _estimated(problem, theta, batches)[0]
    stored = _buffers(statistics(problem.model))

    def part() -> Tensor:
        found, seen = _estimated(problem, theta, batches)
        flat = [found[name].double().flatten() for name in stored]
        weight = 0 if idle else seen
        return weight * torch.cat([*flat, torch.ones_like(flat[0][:1])])

    if not stored:
        return {}
    size = sum(value.numel() for value in stored.values())
    total = problem.ranks.total(
        part, torch.zeros(size + 1, dtype=torch.float64, device=theta.device)
    )
    means = (total[:-1] / total[-1]).split([value.numel() for value in stored.values()])
    return {
        name: mean.view_as(value).to(value.dtype)
        for (name, value), mean in zip(stored.items(), means, strict=True)
    }


def _buffers(layers: Mapping[str, _BatchNorm]) -> dict[str, Tensor]:
    """The running means and variances of layers, by their names in the network."""
    return {
        f"{name}.{kind}" if name else kind: getattr(layer, kind)
        for name, layer in layers.items()
        for kind in ("running_mean", "running_var")
    }


def _estimated(
    problem: Problem, theta: Tensor, batches: Iterable[Batch]
) -> tuple[dict[str, Tensor], int]:
    """The statistics of the batches of this process, and the number of examples."""
    found: dict[str, Tensor] = {}
    state, seen = problem.state(), 0
    for i, batch in enumerate(batches):
        seen += batch.size
        held = problem.holding(theta, {**state, **found})
        with torch.no_grad(), problem.deterministic(), held as network:
            layers = statistics(network)
            for layer in layers.values():
                for value in (layer.running_mean, layer.running_var):
                    if not found and value is not None:
                        value.zero_()
                layer.training = True
                layer.momentum = batch.size / seen  # so the running value is the weighted mean
            try:
                problem.run(network, batch)
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                raise InputError(
                    f"batch {i} cannot recalibrate BatchNorm ({error}): give batches that the "
                    "model takes, of two examples or more"
                ) from error
            found = _buffers(layers)
    return found, seen


def kind(problem: Problem) -> str:
    """Where BatchNorm's statistics come from: "stored", "batch", or "none" without BatchNorm."""
    layers = [module for module in problem.model.modules() if isinstance(module, _BatchNorm)]
    during = problem.objective.setting.attributes
    stored = any(
        layer.running_mean is not None and not during[layer]["training"] for layer in layers
    )
    return "stored" if stored else "batch" if layers else "none"
