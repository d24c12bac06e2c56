"""BatchNorm statistics for other weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lla.batches import Batch
from lla.errors import InputError
from lla.problem import Problem


def statistics(network: nn.Module) -> dict[str, _BatchNorm]:
    """The BatchNorm layers that normalise with stored statistics, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }


def recalibrated(problem: Problem, theta: Tensor, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """BatchNorm's running mean and variance at other weights, estimated from batches.

    The layers normalise with the statistics of each batch while the statistics are estimated;
    those of several batches are averaged, weighted by size. (Izmailov et al., 2018, section 3.2,
    estimate them in this way after averaging weights.)

    Args:
        problem: in eval mode; dropout stays off.
        theta: the weights [P].
        batches: their targets are not used.

    Returns:
        New buffers by name; empty without BatchNorm.

    Raises:
        InputError: the model rejects a batch, such as one with a single value for each channel.
    """
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
            found = {
                f"{name}.{kind}" if name else kind: getattr(layer, kind)
                for name, layer in layers.items()
                for kind in ("running_mean", "running_var")
            }
    return found


def kind(problem: Problem) -> str:
    """Where BatchNorm's statistics come from: "stored", "batch", or "none" without BatchNorm."""
    layers = [module for module in problem.model.modules() if isinstance(module, _BatchNorm)]
    during = problem.objective.setting.attributes
    stored = any(
        layer.running_mean is not None and not during[layer]["training"] for layer in layers
    )
    return "stored" if stored else "batch" if layers else "none"
