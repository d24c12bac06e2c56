"""Measures of a network that are compared with its generalization, beside relative flatness.

Relative flatness itself is `lla.flatness`, K_H05 and r_e are `lla.criteria`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from lla.arguments import number_of_draws
from lla.door import check_derivatives
from lla.errors import InputError, NonFiniteError
from lla.estimate import Estimate
from lla.hessian.eigenpairs import top_eigenpairs
from lla.hessian.operator import HessianOperator
from lla.layers.chosen import chosen, weight_name
from lla.layers.conditions import slopes, why_no_cross_entropy
from lla.layers.flatness import flatness_of
from lla.layers.flatness_result import LayerFlatness
from lla.loss_call import logits as logits_of
from lla.probes import gaussian
from lla.problem import Problem
from lla.progress_bars import tqdm

Labels = Literal["data", "model"]
_LARGEST, _SMALLEST = 2.0**40, 2.0**-40  # sigmas that are tried


def layer_trace(
    problem: Problem, layer: str, *, rtol: float = 0.02, max_matvecs: int = 1000, seed: int = 0
) -> Estimate:
    """Trace of the Hessian by the weight of a layer; exact where `lla.flatness` is.

    Args:
        problem: network, loss and data.
        layer: its name.
        rtol: standard error to reach, relative to the value, where it is sampled.
        max_matvecs: products at most.
        seed: of the samples.

    Raises:
        InputError: see `lla.flatness`.
    """
    return _flatness(problem, layer, rtol, max_matvecs, seed).trace


def layerwise(
    problem: Problem, layer: str, *, rtol: float = 0.02, max_matvecs: int = 1000, seed: int = 0
) -> Estimate:
    """||W||_F^2 Tr H of a layer with weight W.

    It does not change if the layer is scaled and the next one divided by as much. With ||W|| in
    place of its square, as public code of relative flatness has it, it would.

    Arguments as of `layer_trace`.
    """
    found = _flatness(problem, layer, rtol, max_matvecs, seed).trace
    square = weight_norm(problem, layer)
    error = None if found.stderr is None else square * found.stderr
    return Estimate(square * found.value, error, found.n, found.matvecs)


def _flatness(
    problem: Problem, layer: str, rtol: float, max_matvecs: int, seed: int
) -> LayerFlatness:
    return flatness_of(problem, layer, rtol=rtol, max_matvecs=max_matvecs, seed=seed)[layer]


def largest_eigenvalue(problem: Problem, layer: str | None = None, *, seed: int = 0) -> float:
    """Largest eigenvalue of the Hessian by the weight of a layer, or by all parameters.

    By Lanczos; its error is that of `lla.top_eigenpairs`.

    Args:
        problem: network, loss and data.
        layer: its name; None takes all parameters.
        seed: of the start vector.

    Raises:
        InputError: the layer does not exist; see `lla.HessianOperator`.
    """
    H = HessianOperator(problem, None if layer is None else [_exactly(problem, layer)])
    return float(top_eigenpairs(H, 1, seed=seed).values[0])


def weight_norm(problem: Problem, layer: str | None = None) -> float:
    """Squared Frobenius norm of the weight of a layer, or of all weights of the network.

    Weights are trainable parameters with two dimensions or more: neither biases nor the factors of
    normalizations (Jiang, Neyshabur, Mobahi, Krishnan and Bengio 2020, parameter norm).

    Args:
        problem: with the network.
        layer: its name; None takes all.

    >>> model = torch.nn.Linear(2, 2)
    >>> _ = model.weight.data.fill_(3.0)
    >>> weight_norm(Problem(torch.nn.Sequential(model), (torch.ones(2, 2), torch.tensor([0, 1]))))
    36.0
    """
    now = problem.parameters()
    names = [n for n, t in now.items() if t.ndim >= 2] if layer is None else [_name(problem, layer)]
    return float(sum(now[name].detach().double().square().sum() for name in names))


def _name(problem: Problem, layer: str) -> str:
    """The name of a layer's weight among the parameters."""
    return weight_name(problem, chosen(problem, layer)[0])


def _exactly(problem: Problem, layer: str) -> str:
    """The pattern of a layer's weight alone."""
    return f"re:^{re.escape(_name(problem, layer))}$"


def fisher_rao(problem: Problem, labels: Labels = "data") -> float:
    """The squared Fisher-Rao norm theta' F theta (Liang, Poggio, Rakhlin and Stokes 2019).

    F = mean_n g_n g_n' for the gradients g_n of each example's loss, the paper's definition, so
    that theta' F theta = mean_n <dl_n/dz, J_n theta>^2 with the Jacobian J_n of the logits z. It
    takes one product with J a batch and is exact. Theta are all trainable parameters.

    For a network that is piecewise linear, without biases, of D layers, J theta = D z, and the norm
    is D^2 mean_n <dl_n/dz, z_n>^2, as the paper shows. That is not
    used here: it holds for these alone.

    Args:
        problem: with a mean cross-entropy.
        labels: "data" takes the labels of the examples, as the paper does; "model" the mean over
            labels that the network predicts: then F is the Fisher information.

    Raises:
        InputError: the loss is no mean cross-entropy, or `labels` is neither.
    """
    if labels not in ("data", "model"):
        raise InputError(f"labels is {labels!r}: choose 'data' or 'model'")
    check_derivatives(problem)
    total = 0.0
    batches = zip(problem.batches, problem.coefficients, strict=True)
    for i, (batch, share) in enumerate(batches):
        theta = problem.theta().requires_grad_()
        held = problem.holding(theta)
        with problem.deterministic(), torch.enable_grad(), held as network:
            why = "the loss is a function of the model"
            if not problem.findings.call.takes_model:
                output = problem.objective.whole_output(network, batch)
                why = why_no_cross_entropy(problem, batch, output) or ""
            if why:
                raise InputError(
                    f"the Fisher-Rao norm needs a mean cross-entropy, but in batch {i} {why}: "
                    "take loss=torch.nn.functional.cross_entropy"
                )
            z = logits_of(output)
            along = _along(z, theta)
            if labels == "data":
                squares = (slopes(problem, batch, z).double() * along).sum(1).square()
            else:
                p = z.detach().double().softmax(1)
                squares = (p * (along - (p * along).sum(1, keepdim=True)).square()).sum(1)
        total += share * float(squares.mean())
    return total


def _along(z: Tensor, theta: Tensor) -> Tensor:
    """J theta [n, C] in float64, by a backward pass through a backward pass."""
    a = torch.zeros_like(z).requires_grad_()
    (gradient,) = torch.autograd.grad(z, theta, a, create_graph=True)
    (found,) = torch.autograd.grad(gradient, a, theta.detach())
    return found.detach().double()


def tolerated_sigma(
    problem: Problem,
    rise: float = 0.1,
    *,
    relative: bool = False,
    draws: int = 16,
    tol: float = 1e-3,
    seed: int = 0,
    progress: bool = False,
) -> Estimate:
    """The Gaussian sigma at which the mean loss of perturbed weights has risen by an amount.

    The sigma with mean_u L(theta + sigma u) = L(theta) + rise, for u of independent standard normal
    numbers, or these times |theta_i| where `relative`. It is the first such sigma above a small
    one, found by doubling and bisection with the same draws at each sigma.

    (Keskar, Mudigere, Nocedal, Smelyanskiy and Tang 2017 for sharpness; Neyshabur, Bhojanapalli,
    McAllester and Srebro 2017 for its mean; Jiang et al. 2020, who ask for a drop of the
    accuracy, and add a small constant to |theta_i|.)

    Args:
        problem: network, loss and data.
        rise: of the mean loss.
        relative: whether weights are perturbed in proportion to their magnitude.
        draws: number of u.
        tol: relative width of the last bracket; the standard error is that of the draws alone.
        seed: of u.
        progress: show a bar over the evaluations.

    Returns:
        Sigma. Its standard error is that of the mean loss there, divided by the slope.

    Raises:
        InputError: `rise` or `tol` not positive, less than two draws, a loss that does not rise by
            this amount for any sigma.
        NonFiniteError: the loss at theta is not finite.
    """
    if not 0 < rise < math.inf:
        raise InputError(f"rise is {rise}: it must be positive")
    if not 0 < tol < 1:
        raise InputError(f"tol is {tol}: choose a number between 0 and 1")
    draws = number_of_draws("draws", draws, 2)
    limit = float(problem.loss()) + rise
    theta = problem.theta()
    scale = theta.abs() if relative else torch.ones((), dtype=theta.dtype, device=theta.device)

    with tqdm(unit="loss", disable=not progress) as bar:

        def over(sigma: float) -> Tensor:
            """By how much the loss of each draw exceeds the limit [draws]."""
            found = []
            for i in range(draws):
                u = gaussian(len(theta), theta, seed, 21, i) * scale
                found.append(float(problem.pool(problem.batch_losses(theta + sigma * u))))
                bar.update()
            # where the loss overflows it has risen
            excess = torch.tensor(found, dtype=torch.float64) - limit
            return excess.nan_to_num(nan=math.inf, posinf=math.inf)

        low, high = _bracket(lambda sigma: float(over(sigma).mean()), rise)
        while high / low > 1 + tol:
            middle = math.sqrt(low * high)
            low, high = (low, middle) if over(middle).mean() >= 0 else (middle, high)
        # wider than the bracket, where the difference would be rounding
        sigma, wide = math.sqrt(low * high), 1.05
        slope = (over(sigma * wide).mean() - over(sigma / wide).mean()) / (
            sigma * (wide - 1 / wide)
        )
        error = float(over(sigma).std() / math.sqrt(draws) / slope)
    return Estimate(sigma, abs(error), draws, 0)


def _bracket(over: Callable[[float], float], rise: float) -> tuple[float, float]:
    """Two sigmas, one twice the other, between which the loss passes the limit."""
    sigma = 2.0**-10
    while over(sigma) >= 0:
        sigma /= 2
        if sigma < _SMALLEST:
            raise NonFiniteError(
                f"the loss rises by more than {rise} for any sigma down to {sigma:.1g}: check the "
                "weights, or take a larger rise"
            )
    while over(2 * sigma) < 0:
        sigma *= 2
        if sigma > _LARGEST:
            raise InputError(
                f"the loss does not rise by {rise} for any sigma up to {sigma:.1g}: take a smaller "
                "rise"
            )
    return sigma, 2 * sigma


def sharpness(
    problem: Problem,
    rise: float = 0.1,
    *,
    relative: bool = False,
    draws: int = 16,
    tol: float = 1e-3,
    seed: int = 0,
    progress: bool = False,
) -> Estimate:
    """PAC-Bayes style sharpness 1 / sigma^2, for the sigma of `tolerated_sigma`; same arguments.

    The bound of PAC-Bayes has ||theta||^2 / sigma^2 with Gaussians of this width (Neyshabur et al.
    2017; Jiang et al. 2020).
    """
    found = tolerated_sigma(
        problem, rise, relative=relative, draws=draws, tol=tol, seed=seed, progress=progress
    )
    value, error = found.value**-2, found.stderr or 0.0
    return Estimate(value, 2 * value * error / found.value, found.n, found.matvecs)
