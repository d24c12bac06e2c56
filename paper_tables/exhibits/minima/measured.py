"""What is measured of a minimum: radii, and the cheap measures beside them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

import lla
from lla import measures
from lla.landscape.evaluate import losses
from lla.layers.flatness import flatness_of
from lla.minima import RadialIndex, ray_directions
from lla.minima.radii import Rays
from lla.saved import Saved
from lla.storage import array_faults

# metric -> how it is printed
RADII = {
    "mean_radius": "mean radius", "sd_radius": "sd of radii", "max_radius": "largest radius",
    "log10_index": "log10 radial index", "log10_low": "lower end", "log10_high": "upper end",
    "log10_jensen": "Jensen's bound", "log10_first": "first half", "log10_second": "second half",
    "censored": "censored", "evaluations": "evaluations of the loss",
    "shortfall": "ellipsoid of spread 1 too small by",
}  # fmt: skip
CHEAP = {
    "kappa": "kappa, all layers", "kappa_diag": "diagonal part of kappa", "trace": "trace",
    "top_eigenvalue": "largest eigenvalue", "re": "r_e", "kh05": "K_H05",
}  # fmt: skip
INDEX = "log10_index"
# measures by which minima are told apart; larger means flatter for the first two
COMPARED = {INDEX: "log10 radial index", "mean_radius": "mean radius", **CHEAP}
FLATTER = (INDEX, "mean_radius")
SPREAD = 1  # position in lla's SPREADS: one decade
STEPS, PROBES = 40, 1  # Lanczos steps and probes of r_e and K_H05
CUTS, CUT_POINTS = 4, 61  # directions that are cut along, and points of each
PIXELS = 121  # of a side of decision regions
FACTOR = 7.0  # by which layers are rescaled
COMPARED_DIRECTIONS = 8  # radii that are measured again after it


@dataclass(frozen=True)
class Picture(Saved):
    """What figures show of a minimum."""

    radii: np.ndarray  # [K]
    reached: np.ndarray  # [K]
    at: np.ndarray  # [CUT_POINTS] distances of the cuts
    cuts: np.ndarray  # [CUTS, CUT_POINTS] losses
    extent: np.ndarray  # [4] left, right, bottom, top of the regions; empty without
    regions: np.ndarray  # [PIXELS, PIXELS] probability of class 1, float16; empty without
    points: np.ndarray  # [N, 3] training points and their classes; empty without

    def _faults(self) -> Iterator[str]:
        count = len(self.radii)
        yield from array_faults(
            self,
            radii=((count,), "float64"),
            reached=((count,), "bool"),
            at=((CUT_POINTS,), "float64"),
            cuts=((CUTS, CUT_POINTS), "float64"),
        )


def of_radii(found: RadialIndex) -> dict[str, float]:
    """The numbers of an index, by `RADII`."""
    low, high = found.interval
    values = (
        found.mean.value, found.sd, found.maximum, found.log10_index, low, high,
        found.log10_jensen, *found.halves, found.censored, found.evaluations,
        float(found.shortfalls[SPREAD]),
    )  # fmt: skip
    return dict(zip(RADII, map(float, values), strict=True))


def cheap(problem: lla.Problem) -> dict[str, float]:
    """Measures by products and formulas, by `CHEAP`; traces and kappas are sums over layers."""
    layers = list(flatness_of(problem))
    ratios = lla.criteria(
        problem.model, list(problem.batches), probes=PROBES, steps=STEPS, scope="pooled"
    )
    return {
        "kappa": sum(layer.kappa.value for layer in layers),
        "kappa_diag": sum(layer.kappa_diag.value for layer in layers),
        "trace": sum(layer.trace.value for layer in layers),
        "top_eigenvalue": measures.largest_eigenvalue(problem),
        "re": ratios.re.value,
        "kh05": ratios.kh05.value,
    }


def picture(
    problem: lla.Problem, found: RadialIndex, width: float, points: tuple[Tensor, Tensor] | None
) -> Picture:
    """What figures need.

    Args:
        problem: the minimum.
        found: its radii.
        width: half that of the cuts.
        points: training points in the plane; None draws no regions.
    """
    at = np.linspace(-width, width, CUT_POINTS)
    rays = Rays(problem.theta(), ray_directions(problem, CUTS, found.seed))
    places = [[i, c] for i in range(CUTS) for c in at]
    parts = losses(problem, rays, torch.tensor(places, dtype=torch.float64), route=found.route)
    cuts = torch.cat([part.double().cpu() for _, part, _ in parts]).numpy()
    extent, regions, shown = np.zeros(0), np.zeros((0, 0), np.float16), np.zeros((0, 3))
    if points is not None:
        x, y = points
        half = 1.15 * float(x.abs().max())
        extent = np.array([-half, half, -half, half])
        axis = torch.linspace(-half, half, PIXELS, dtype=x.dtype, device=x.device)
        grid = torch.cartesian_prod(axis, axis)
        with torch.no_grad():
            p = problem.model(grid).softmax(1)[:, 1].reshape(PIXELS, PIXELS)
        regions = p.cpu().numpy().astype(np.float16)
        shown = torch.cat([x.double(), y[:, None].double()], 1).cpu().numpy()
    return Picture(
        found.radii, found.reached, at, cuts.reshape(CUTS, CUT_POINTS), extent, regions, shown
    )


def rescaled(model: nn.Module, first: str, second: str) -> nn.Module:
    """A copy that is the same function: one layer times `FACTOR`, the next one divided by it.

    Args:
        model: with only a ReLU, and pooling, between both layers.
        first: a layer.
        second: the next one.
    """
    other = copy.deepcopy(model)
    before, after = other.get_submodule(first), other.get_submodule(second)
    with torch.no_grad():
        before.weight.mul_(FACTOR)  # type: ignore[operator]
        before.bias.mul_(FACTOR)  # type: ignore[operator]
        after.weight.div_(FACTOR)  # type: ignore[operator]
    return other


def two_layers(model: nn.Module) -> tuple[str, str] | None:
    """Two layers one after the other with only ReLU and pooling between; None without any."""
    if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return None
    kinds = (nn.Linear, nn.Conv2d)
    names = [name for name, module in model.named_modules() if isinstance(module, kinds)]
    return names[0], names[1]
