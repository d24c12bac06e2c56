"""Layer-wise Hessians: top eigenspaces of each layer's block, and what a Kronecker product says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lla.arguments import number_of_draws, whole_number
from lla.door import check_derivatives
from lla.errors import InputError
from lla.free_memory import check_fits
from lla.hessian.eigenpairs import top_eigenpairs
from lla.hessian.operator import HessianOperator
from lla.hessian.symmetric import SymmetricOperator
from lla.layers import chosen as names_of
from lla.layers.frobenius import frobenius_error
from lla.layers.ggn import GGNOperator
from lla.layers.kronecker import KroneckerOperator, outliers
from lla.layers.layer_curvature import LayerCurvature
from lla.layers.layerwise_result import Layerwise
from lla.layers.moments import Moments, check_groups, moments
from lla.loss_call import Loss
from lla.model_call import Mode
from lla.overlaps import curve
from lla.problem import Precision, Problem

_COPIES = 6  # of the factors of a layer in float64 that are held at a time
_NO_MEAN = 1e-12  # length of the mean input, relative to that of inputs, that is rounding


def layerwise(
    model: nn.Module,
    batches: Any,
    k: int = 10,
    layers: str | Sequence[str] | None = None,
    *,
    loss: Loss | None = None,
    mode: Mode = "eval",
    centre: bool = False,
    tol: float = 1e-4,
    max_steps: int = 300,
    probes: int = 32,
    seed: int = 0,
    weights: Sequence[float] | None = None,
    precision: Precision | None = None,
    check: bool = True,
    progress: bool = False,
) -> Layerwise:
    """The top eigenspace of each layer's Hessian, beside its Kronecker approximation.

    Of the diagonal block H by the weight W [F, d] of a layer (vec(W) row by row, without the bias),
    the k largest eigenpairs are found by Lanczos. They are compared with those of E[M] (x) E[xx'],
    where M is the curvature of the cross-entropy by the layer's output and x its input, see
    `lla.layers.moments` ("Dissecting Hessian", Wu et al., arXiv:2010.04261). For a network that is
    piecewise linear in the weight, H = E[M (x) xx'] for a linear layer; where it is not, `why` of
    the layer says so. A convolution has the patches of its input as x, and the Kronecker product
    leaves out what different positions have in common (Grosse and Martens 2016).

    Ctrl-C ends the call, and nothing of it is kept; name a few `layers` in each of several calls.

    Args:
        model: the network.
        batches: see `lla.Problem`; two examples at least.
        k: eigenpairs of each layer, at most its number F of outputs. A layer with fewer outputs is
            refused, whether it was named or not.
        layers: names as in `named_modules`; by default all linear layers and convolutions, except
            those with groups, whose filters see different inputs.
        loss: see `lla.Problem`; a mean cross-entropy of logits [n, C].
        mode: "eval", or "train" for a network whose examples do not affect each other.
        centre: take the layer's inputs minus their mean. The network stays the same function if the
            bias takes up W E[x], so this is another parametrisation of it. The block of the
            weight is then E[M (x) (x - E[x])(x - E[x])'] for a linear layer. It is computed as a
            Gauss-Newton matrix (`lla.layers.GGNOperator`), also where the Hessian is another.
        tol: see `lla.top_eigenpairs`.
        max_steps: see `lla.top_eigenpairs`.
        probes: random products from which the distance of H from its approximation is estimated,
            beside 2 k products with eigenvectors. If there are no more weights than that, it is
            computed exactly.
        seed: of start vectors, probes and dropout.
        weights: see `lla.Problem`.
        precision: see `lla.Problem`.
        check: see `lla.Problem`.
        progress: show progress bars.

    Returns:
        The curvature of each layer.

    Raises:
        InputError: see `lla.Problem`; a layer that does not exist or has no such factors; k below 1
            or above the outputs of a layer; one example; another loss; a Hessian that is zero.
        InsufficientMemoryError: the factors of a layer do not fit into memory.
        NonFiniteError: the loss or a product is not finite.

    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    >>> batch = torch.rand(6, 3), torch.arange(6) % 2
    >>> found = layerwise(model, batch, k=2)
    >>> found["0"].eigenvectors.shape, found["0"].frobenius_error.stderr
    ((2, 4, 3), 0.0)
    """
    k = whole_number("k", k)
    if k < 1:
        raise InputError(f"k is {k}: it must be positive")
    probes = number_of_draws("probes", probes, 2)
    problem = Problem(
        model, batches, loss=loss, mode=mode, seed=seed, weights=weights, precision=precision,
        check=check,
    )  # fmt: skip
    names = _names(problem, layers, k)
    if problem.examples < 2:
        raise InputError(
            "there is one example, for which every linear layer is a Kronecker product: give two "
            "or more"
        )
    value = float(problem.loss())
    check_derivatives(problem)
    factors = moments(problem, names, progress)
    how = _How(k, tol, max_steps, probes, seed, centre, progress)
    return Layerwise.of(
        [_layer(problem, name, factors.pop(name), how) for name in names],
        k=k, matrix="Gauss-Newton matrix, centred" if centre else "Hessian", mode=mode,
        centred=centre, examples=problem.examples, loss=value, seed=seed,
        dtype=str(problem.dtype).removeprefix("torch."), about=problem.about,
    )  # fmt: skip


@dataclass(frozen=True)
class _How:
    """The arguments of `layerwise` that a layer's measurement needs."""

    k: int
    tol: float
    max_steps: int
    probes: int
    seed: int
    centre: bool
    progress: bool


def _names(problem: Problem, layers: str | Sequence[str] | None, k: int) -> list[str]:
    """The layers to measure; an error for one that k or memory does not fit."""
    names = names_of.chosen(problem, layers)
    if layers is None:
        modules = dict(problem.model.named_modules())
        names = [name for name in names if getattr(modules[name], "groups", 1) == 1]
        if not names:
            raise InputError("every convolution of the network has groups: there is no such layer")
    for name in names:
        check_groups(problem, name)
        outputs, inputs = _size(problem, name)
        if k > outputs:
            raise InputError(
                f"k is {k}, but layer {name} has {outputs} outputs: take k={outputs} or less, or "
                "leave it out of layers"
            )
        check_fits(
            8 * _COPIES * (outputs**2 + inputs**2),
            problem.device,
            f"the factors of {name}, {outputs} by {outputs} and {inputs} by {inputs},",
            "leave it out of layers",
        )
    return names


def _size(problem: Problem, name: str) -> tuple[int, int]:
    """F and d of a layer."""
    weight = names_of.weight_name(problem, name)
    shape = dict(zip(problem.space.names, problem.space.shapes, strict=True))[weight]
    return shape[0], shape[1:].numel()


def _layer(problem: Problem, name: str, found: Moments, how: _How) -> LayerCurvature:
    """The curvature of a layer from its factors and from products with its block."""
    outputs, inputs = _size(problem, name)
    H = _operator(problem, name, found, how)
    pairs = top_eigenpairs(
        H, how.k, "LA", how.seed, tol=how.tol, max_steps=how.max_steps, progress=how.progress
    )
    vectors = torch.from_numpy(pairs.vectors).to(found.M).reshape(how.k, outputs, inputs)
    K = KroneckerOperator(found.M, found.covariance if how.centre else found.xx)
    values, left, right = K.top(how.k)
    between = torch.einsum("kfd,jf,jd->kj", vectors, left, right)
    basis = torch.cat([vectors.flatten(1), torch.einsum("kf,kd->kfd", left, right).flatten(1)])
    error = frobenius_error(H, K, basis, how.probes, how.seed)
    share, own_left, own_right = first_singular(vectors)
    spectrum, axes = torch.linalg.eigh(found.M)
    count, gap = outliers(spectrum.flip(0))
    length = found.mean.norm()
    cosine = (own_right @ found.mean).abs() / length
    if length <= _NO_MEAN * found.xx.trace().sqrt():
        cosine = torch.full_like(cosine, np.nan)

    def array(tensor: Tensor) -> np.ndarray:
        return tensor.cpu().numpy()

    return LayerCurvature(
        name, pairs.values, pairs.residuals, pairs.vectors.reshape(how.k, outputs, inputs),
        array(share), array(cosine), array((own_left @ axes).abs().amax(1)), array(K.left),
        array(K.right), array(found.mean), array(values), array(left), array(right),
        curve(array(between)), error, count, gap, H.matvecs, pairs.converged, found.why,
    )  # fmt: skip


def _operator(problem: Problem, name: str, found: Moments, how: _How) -> SymmetricOperator:
    """The block of a layer."""
    if how.centre:
        return GGNOperator(problem, name, found.mean)
    weight = names_of.weight_name(problem, name)
    products = 5 * how.k + how.probes
    return HessianOperator(problem, f"re:^{re.escape(weight)}$", products=products)


def first_singular(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The largest singular value of each matrix [k, F, d] as a share, and its vectors.

    Returns:
        sigma_1^2 / sum sigma^2 [k], left vectors [k, F], right vectors [k, d].
    """
    turned = matrices.shape[1] > matrices.shape[2]
    wide = matrices.transpose(1, 2) if turned else matrices
    # the Gram matrix of the shorter side is enough for the largest
    values, vectors = torch.linalg.eigh(wide @ wide.transpose(1, 2))
    short = vectors[:, :, -1]
    long = torch.einsum("kf,kfd->kd", short, wide)
    long = long / long.norm(dim=1, keepdim=True)
    share = values[:, -1] / wide.square().sum((1, 2))
    return (share, long, short) if turned else (share, short, long)
