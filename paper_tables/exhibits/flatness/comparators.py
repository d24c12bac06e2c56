"""What is compared with relative flatness, for one network on one set of examples."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, jvp

import lla
from lla.layers.flatness import flatness
from lla.probes import gaussian

# measure -> how it is printed; relative flatness comes first
MEASURES = {
    "kappa": "kappa",
    "kappa_normalized": "kappa, inputs normalised",
    "kappa_diag": "diagonal part of kappa",
    "trace": "trace",
    "neuronwise": "trace / d",
    "norm_trace": "||W||^2 trace",
    "top_eigenvalue": "largest eigenvalue",
    "fisher_rao": "Fisher-Rao norm",
    "weight_norm": "weight norm",
    "sharpness": "sharpness (PAC-Bayes style)",
    "re": "r_e",
    "kh05": "K_H05",
}
RISE = 0.1  # of the loss, that perturbed weights may reach
DRAWS, HALVINGS = 5, 10
STEPS = 40  # Lanczos steps of r_e and K_H05


def measured(model: nn.Module, batch: tuple[Tensor, Tensor], layer: str) -> dict[str, float]:
    """All measures of a network, the keys in the order of `MEASURES`.

    Args:
        model: in eval mode or without layers that know modes.
        batch: all training inputs and labels, in one batch.
        layer: the one that traces and kappas are of.
    """
    problem = lla.Problem(model, batch)
    plain = flatness(model, batch, layer)[layer]
    normalized = flatness(model, batch, layer, normalize_inputs=True)[layer]
    weight: Tensor = model.get_submodule(layer).weight.detach()  # type: ignore[union-attr, operator]
    H = lla.HessianOperator(problem, f"{layer}.weight")
    top = lla.top_eigenpairs(H, 1, tol=1e-3)
    ratios = lla.criteria(model, batch, probes=1, steps=STEPS)
    found = {
        "kappa": plain.kappa.value,
        "kappa_normalized": normalized.kappa.value,
        "kappa_diag": plain.kappa_diag.value,
        "trace": plain.trace.value,
        "neuronwise": plain.neuronwise,
        "norm_trace": float(weight.double().square().sum()) * plain.trace.value,
        "top_eigenvalue": float(top.values[0]),
        "fisher_rao": fisher_rao(problem),
        "weight_norm": weight_norm(problem),
        "sharpness": sharpness(problem),
        "re": ratios.re.value,
        "kh05": ratios.kh05.value,
    }
    assert list(found) == list(MEASURES)
    return found


def fisher_rao(problem: lla.Problem) -> float:
    """The Fisher-Rao norm theta' F theta with the empirical Fisher matrix F.

    That is the mean over examples of the squared derivative of the loss along theta (Liang,
    Poggio, Rakhlin and Stokes 2019).
    """
    parameters = {name: p.detach() for name, p in problem.model.named_parameters()}
    (batch,) = problem.batches

    def losses(values: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(
            functional_call(problem.model, values, (batch.x,)), batch.y, reduction="none"
        )

    _, along = jvp(losses, (parameters,), (parameters,))
    return float(along.double().square().mean())


def weight_norm(problem: lla.Problem) -> float:
    """The Euclidean norm of all parameters."""
    return float(problem.theta().double().norm())


def sharpness(problem: lla.Problem, seed: int = 0) -> float:
    """1 / sigma^2 for the noise N(0, sigma^2) of the weights that lets the loss rise by `RISE`.

    The mean rise over some draws, the same ones at every sigma (Jiang, Neyshabur, Mobahi,
    Krishnan and Bengio 2020, after Neyshabur, Bhojanapalli, McAllester and Srebro 2017).
    """
    theta = problem.theta()
    start = float(problem.loss())
    noise = [gaussian(len(theta), theta, seed, i) for i in range(DRAWS)]

    def rise(sigma: float) -> float:
        return sum(float(problem.loss(theta + sigma * u)) for u in noise) / DRAWS - start

    low = high = 0.05
    while rise(high) < RISE:
        low, high = high, 4 * high
    while rise(low) >= RISE:
        low, high = low / 4, low
    for _ in range(HALVINGS):  # to 0.2 percent of sigma
        middle = math.sqrt(low * high)
        low, high = (middle, high) if rise(middle) < RISE else (low, middle)
    return 1 / (low * high)
