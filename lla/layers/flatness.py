"""Trace and relative flatness of the layers of a network: exact where that is possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lla.arguments import whole_number
from lla.batches import Batch
from lla.door import check_derivatives
from lla.errors import InputError
from lla.estimate import Estimate
from lla.layers import chosen as names_of
from lla.layers.calls import LayerCall, called
from lla.layers.closed_form import classifier_of, closed_form, explains, filter_weights
from lla.layers.conditions import slopes, why_no_cross_entropy, why_not_exact
from lla.layers.curvature import Curvature
from lla.layers.flatness_result import Flatness, LayerFlatness
from lla.layers.jacobian_blocks import jacobian_blocks
from lla.layers.sampled import Sampling, sampled
from lla.layers.scales import input_scales
from lla.loss_call import Loss
from lla.loss_call import logits as logits_of
from lla.model_call import Mode
from lla.problem import Precision, Problem

Method = Literal["auto", "closed", "jacobian", "hutchinson"]
METHODS = ("auto", "closed", "jacobian", "hutchinson")
_CLOSED = "each feature is a mean of what its own filter gives, and the logits are linear in it"
_BLOCKS = "the logits are piecewise linear in its weights"


def flatness(
    model: nn.Module,
    batches: Any,
    layers: str | Sequence[str] | None = None,
    *,
    method: Method = "auto",
    loss: Loss | None = None,
    mode: Mode = "eval",
    normalize_inputs: bool = False,
    rtol: float = 0.02,
    max_matvecs: int = 1000,
    seed: int = 0,
    weights: Sequence[float] | None = None,
    precision: Precision | None = None,
    check: bool = True,
    progress: bool = False,
) -> Flatness:
    """The trace of the Hessian of each layer, and its relative flatness kappa.

    With the block H of the Hessian by the weight W [F, d] of a layer and T_fg = sum_j H_(f j)(g j):
    the trace is sum_f T_ff, kappa is sum_fg <w_f, w_g> T_fg (Petzka, Kamp, Adilova, Sminchisescu
    and Boley 2021), its diagonal part sum_f ||w_f||^2 T_ff. Kappa does not change if a layer is
    scaled and the next one divided by as much, while the trace does.

    For a mean cross-entropy and logits that are piecewise linear in the weights of a layer (ReLU,
    pooling, BatchNorm in eval mode), all of them are exact. The labels do not enter, only the
    predicted probabilities: compare networks at equal training loss. Whether a formula is exact for
    a layer is probed on every batch with second derivatives, see `lla.layers.conditions`.

    Ctrl-C ends the call, and nothing of it is kept; name a few `layers` in each of several calls.

    Args:
        model: the network.
        batches: see `lla.Problem`.
        layers: names as in `named_modules`; all linear and convolution layers by default.
        method: "closed" takes the closed form of a last layer, see `lla.layers.closed_form`;
            "jacobian" takes one backward pass a class, see `lla.layers.jacobian_blocks`; both are
            exact. "hutchinson" estimates from random products, for any network and loss. "auto"
            takes the first that is right for a layer.
        loss: see `lla.Problem`.
        mode: "eval" or "train".
        normalize_inputs: divide the inputs of each layer by their standard deviation over examples
            and positions, and multiply its weights by it. It makes kappa independent of the scale
            of each input channel.
        rtol: standard error that samples have to reach, relative to the value.
        max_matvecs: products at most for each sampled number; a warning says if they are too few.
        seed: of the samples, and of dropout.
        weights: see `lla.Problem`.
        precision: see `lla.Problem`.
        check: see `lla.Problem`.
        progress: show progress bars.

    Returns:
        The numbers of each layer with the method and the reason why it was taken.

    Raises:
        InputError: see `lla.Problem`; a layer that does not exist; a method that is not exact for a
            layer, asked for by name.
        NonFiniteError: the loss is not finite.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    >>> batch = torch.rand(6, 3), torch.arange(6) % 2
    >>> f = flatness(model, batch)
    >>> f["2"].method, f["2"].kappa.stderr
    ('closed form', 0.0)
    """
    _check(method, rtol, max_matvecs)
    problem = Problem(
        model, batches, loss=loss, mode=mode, seed=seed, weights=weights, precision=precision,
        check=check,
    )  # fmt: skip
    return flatness_of(
        problem, layers, method=method, normalize_inputs=normalize_inputs, rtol=rtol,
        max_matvecs=max_matvecs, seed=seed, progress=progress,
    )  # fmt: skip


def flatness_of(
    problem: Problem,
    layers: str | Sequence[str] | None = None,
    *,
    method: Method = "auto",
    normalize_inputs: bool = False,
    rtol: float = 0.02,
    max_matvecs: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> Flatness:
    """The same of a problem; see `flatness`."""
    _check(method, rtol, max_matvecs)
    how = Sampling(rtol, max_matvecs, seed, progress)
    names = names_of.chosen(problem, layers)
    value = float(problem.loss())
    check_derivatives(problem)
    scales = input_scales(problem, names) if normalize_inputs else {}
    exact = _Exact(problem, names, scales, method, progress)
    if method != "hutchinson":
        exact.measure()
    found = [
        _exactly(problem, name, exact, scales.get(name))
        if name in exact.totals
        else _by_samples(problem, name, exact.reasons.get(name), scales.get(name), how)
        for name in names
    ]
    return Flatness.of(
        found,
        mode=problem.mode,
        normalized=normalize_inputs,
        examples=problem.examples,
        loss=value,
        dtype=str(problem.dtype).removeprefix("torch."),
        about=problem.about,
    )


def _check(method: str, rtol: float, max_matvecs: int) -> None:
    if method not in METHODS:
        raise InputError(f"method is {method!r}: choose among {', '.join(METHODS)}")
    if not rtol > 0:
        raise InputError(f"rtol is {rtol}: it must be positive")
    if whole_number("max_matvecs", max_matvecs) < 2:
        raise InputError(f"max_matvecs is {max_matvecs}: a standard error takes two products")


@dataclass
class _Exact:
    """The layers that a formula is exact for, batch by batch.

    Attributes:
        totals: curvature of the layers that are exact so far.
        reasons: why the others are not.
        blocks: layers for which some batch took Jacobian blocks.
    """

    problem: Problem
    names: list[str]
    scales: Mapping[str, Tensor]
    method: Method
    progress: bool
    totals: dict[str, Curvature] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    blocks: set[str] = field(default_factory=set)

    def measure(self) -> None:
        """Add up all batches."""
        if self.problem.findings.call.takes_model:
            self._leave(0, dict.fromkeys(self.names, "the loss is a function of the model"))
            return
        linear = [
            name
            for name, module in self.problem.model.named_modules()
            if isinstance(module, nn.Linear)
        ]
        # the classifier on top is watched, too, where it is not asked for
        watched = list(dict.fromkeys([*self.names, *linear]))
        batches = zip(self.problem.batches, self.problem.coefficients, strict=True)
        for i, (batch, share) in enumerate(batches):
            with called(self.problem, batch, watched) as (output, calls):
                self._leave(i, self._probe(batch, output, calls))
                left = [name for name in self.names if name not in self.reasons]
                if not left:
                    break
                self._add(logits_of(output), calls, left, share)
        for name in self.reasons:
            self.totals.pop(name, None)

    def _leave(self, i: int, reasons: Mapping[str, str]) -> None:
        """Note the layers that no formula is exact for in batch i."""
        if self.method != "auto" and reasons:
            name, why = next(iter(reasons.items()))
            raise InputError(
                f"method {self.method!r} is not exact for {name} (batch {i}): {why}; take "
                "method='auto' or 'hutchinson'"
            )
        self.reasons.update(reasons)

    def _probe(self, batch: Batch, output: Any, calls: Mapping[str, LayerCall]) -> dict[str, str]:
        """Find the layers that no formula is exact for, and why."""
        left = {name: calls[name] for name in self.names if name not in self.reasons}
        said = why_no_cross_entropy(self.problem, batch, output)
        if said is not None:
            return dict.fromkeys(left, said)
        logits = logits_of(output)
        return why_not_exact(left, logits, slopes(self.problem, batch, logits))

    def _add(
        self, logits: Tensor, calls: dict[str, LayerCall], left: list[str], share: float
    ) -> None:
        found: dict[str, Curvature] = {}
        classifier = classifier_of(calls, logits)
        for name in left:
            parts = self._closed_parts(name, classifier, calls, logits)
            if parts is not None:
                found[name] = closed_form(calls[name], logits, *parts, self.scales.get(name))
        rest = {name: calls[name] for name in left if name not in found}
        if rest:
            if self.method == "closed":
                raise InputError(
                    f"the closed form does not cover {next(iter(rest))}: it is not the last layer "
                    "before logits or before an average and a linear classifier; take "
                    "method='jacobian'"
                )
            self.blocks |= rest.keys()
            found |= jacobian_blocks(rest, logits, self.scales, self.progress)
        for name, part in found.items():
            total = self.totals.setdefault(name, Curvature.zeros(len(part.table), part.table))
            total.add(part, share)

    def _closed_parts(
        self, name: str, classifier: str | None, calls: dict[str, LayerCall], logits: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """The gradient of features and the classifier of the closed form; None where it is not."""
        if self.method == "jacobian":
            return None
        call = calls[name]
        parts = filter_weights(call, logits, logits, None)
        if parts is None and classifier is not None and classifier != name:
            top = calls[classifier]
            assert top.x is not None
            parts = filter_weights(call, logits, top.x, top.weight)
        return parts if parts is None or explains(call, logits, *parts) else None


def _exactly(problem: Problem, name: str, exact: _Exact, scale: Tensor | None) -> LayerFlatness:
    """The numbers of a layer whose table is known."""
    weight = names_of.weight_name(problem, name)
    W = problem.parameters()[weight].detach().double()
    size = W[0].numel()
    rows = W.reshape(len(W), -1)
    if scale is not None:
        rows = rows * _by_filter(scale, len(W))
    total, blocks = exact.totals[name], name in exact.blocks

    def estimate(value: float) -> Estimate:
        return Estimate(value, 0.0, problem.examples, 0)

    return LayerFlatness(
        name,
        estimate(total.trace),
        estimate(total.bias) if _bias_name(problem, name) else None,
        estimate(total.kappa(rows)),
        estimate(total.kappa_diagonal(rows)),
        len(W),
        size,
        "jacobian blocks" if blocks else "closed form",
        _BLOCKS if blocks else _CLOSED,
        total.table.cpu().numpy(),
    )


def _by_samples(
    problem: Problem, name: str, why: str | None, scale: Tensor | None, how: Sampling
) -> LayerFlatness:
    """The numbers of a layer, estimated."""
    weight = names_of.weight_name(problem, name)
    shape = dict(zip(problem.space.names, problem.space.shapes, strict=True))[weight]
    by = None if scale is None else _by_filter(scale, shape[0])
    found = sampled(problem, weight, _bias_name(problem, name), by, how)
    return LayerFlatness(
        name, found.trace, found.trace_bias, found.kappa, found.kappa_diagonal, shape[0],
        shape[1:].numel(), "hutchinson", why or "asked for by name", None,
    )  # fmt: skip


def _by_filter(scale: Tensor, filters: int) -> Tensor:
    """Standard deviations of patches [G, d] for each filter [F, d]."""
    return scale.repeat_interleave(filters // len(scale), dim=0)


def _bias_name(problem: Problem, name: str) -> str | None:
    """The name of a layer's trainable bias; None without one."""
    bias = getattr(problem.model.get_submodule(name), "bias", None)
    if not isinstance(bias, torch.nn.Parameter):
        return None
    own = {id(p): n for n, p in problem.model.named_parameters()}
    found = own.get(id(bias))
    return found if found in problem.space.names else None
