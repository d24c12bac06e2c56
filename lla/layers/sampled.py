"""Flatness of a layer of any network from random Hessian-vector products, without bias.

With Z [F, d] of independent random signs and S S' = W W', the product x' H x of x = S Z has the
mean sum_fg <w_f, w_g> T_fg, the relative flatness; with Z alone the trace; with ||w_f|| Z_f the
part f = g (Hutchinson 1989 for the trace).
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lla.errors import NonFiniteError
from lla.estimate import Estimate
from lla.hessian.operator import HessianOperator
from lla.hessian.trace import trace
from lla.probes import rademacher
from lla.problem import Problem
from lla.progress_bars import tqdm

_FIRST = 16  # samples before the error is looked at


@dataclass(frozen=True)
class Sampling:
    """How much is sampled.

    Attributes:
        rtol: standard error to reach, relative to the value.
        max_matvecs: products at most, for each of the numbers.
        seed: of the signs.
        progress: show progress bars.
    """

    rtol: float
    max_matvecs: int
    seed: int
    progress: bool = False


@dataclass(frozen=True)
class Sampled:
    """What was estimated of a layer."""

    trace: Estimate
    trace_bias: Estimate | None
    kappa: Estimate
    kappa_diagonal: Estimate


def sampled(
    problem: Problem, weight: str, bias: str | None, scale: Tensor | None, how: Sampling
) -> Sampled:
    """Estimate the flatness of a layer.

    Args:
        problem: network, loss and data.
        weight: name of the layer's weight.
        bias: name of its bias; None without a trainable one.
        scale: standard deviations of the elements of a patch, one for each element of the weight's
            rows [F, d], by which inputs are divided; None divides by nothing.
        how: see the class.
    """
    H = HessianOperator(problem, f"re:^{re.escape(weight)}$", products=how.max_matvecs)
    shape = H.space.shapes[0]
    W = H.theta.reshape(shape[0], -1)
    by = torch.ones((), dtype=W.dtype, device=W.device) if scale is None else scale.to(W)
    W = W * by
    root = _root(W)
    norms = W.norm(dim=1, keepdim=True)

    def drawn(stream: int, turned: Callable[[Tensor], Tensor]) -> Estimate:
        def draw(i: int) -> Tensor:
            signs = rademacher(H.theta.numel(), H.theta, how.seed, stream, i).reshape(W.shape)
            return (turned(signs) / by).reshape(-1)

        return _mean(H, draw, how)

    of_bias = None
    if bias is not None:
        one = HessianOperator(problem, f"re:^{re.escape(bias)}$", products=how.max_matvecs)
        of_bias = trace(
            one, rtol=how.rtol, max_matvecs=max(2, how.max_matvecs), seed=how.seed,
            progress=how.progress,
        )  # fmt: skip
    return Sampled(
        drawn(11, lambda signs: signs),
        of_bias,
        drawn(12, lambda signs: root @ signs),
        drawn(13, lambda signs: norms * signs),
    )


def _root(W: Tensor) -> Tensor:
    """S [F, F] with S S' = W W'."""
    values, vectors = torch.linalg.eigh(W.double() @ W.double().T)
    root: Tensor = vectors * values.clamp(min=0).sqrt()
    return root.to(W)


def _mean(H: HessianOperator, draw: Callable[[int], Tensor], how: Sampling) -> Estimate:
    """The mean of x' H x over vectors x that are drawn, until its error is small enough."""
    samples: list[float] = []
    wanted = min(_FIRST, how.max_matvecs)
    with tqdm(total=how.max_matvecs, unit="product", disable=not how.progress) as bar:
        while True:
            for i in range(len(samples), wanted):
                x = draw(i)
                samples.append(float(x.double() @ (H @ x).double()))
                bar.update()
            found = Estimate.of(samples, len(samples))
            if not math.isfinite(found.value):
                raise NonFiniteError(
                    "a Hessian-vector product is not finite: check the weights and the inputs"
                )
            error = found.stderr or 0.0
            if error <= how.rtol * abs(found.value):
                return found
            if wanted >= how.max_matvecs:
                warnings.warn(
                    f"after {wanted} products the standard error is {error:.2g}, above "
                    f"{how.rtol:.2g} of the value {found.value:.2g}: raise max_matvecs or rtol",
                    stacklevel=2,
                )
                return found
            wanted = min(how.max_matvecs, math.ceil(1.25 * wanted))
