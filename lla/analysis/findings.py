"""What the numbers of an analysis say, in plain words; each finding follows from one rule."""

from __future__ import annotations

import math

from lla.analysis.result import Analysis, Finding, other_mode
from lla.errors import first_of
from lla.estimate import Estimate
from lla.hessian.kind import NEAR
from lla.hessian.rounding import is_small
from lla.report.text import measured

UNTRAINED = 0.01  # share of the loss that a step along the gradient would take away
PRECISE = 0.1  # relative standard error above which more batches are worth their time
GOAL = 0.05  # the one to aim at
UNUSED = 0.01  # share of parameters


def findings_of(found: Analysis) -> tuple[Finding, ...]:
    """All findings, in the order in which a reader wants them."""
    rules = (stationary, kind, error, rounding, mode, landscape, idle, concentrated)
    each = (rule(found) for rule in rules)
    return tuple(finding for finding in each if finding is not None)


def stationary(found: Analysis) -> Finding:
    """Whether training has ended, and in a minimum or a saddle.

    A step of length |g| / lambda_max along the gradient g lowers the loss by |g|^2 / (2 lambda_max)
    in second order at least. An eigenvalue is negative for certain where its residual is smaller
    than its magnitude.
    """
    extremes, loss = found.extremes, found.criteria.loss
    last = int(extremes.values.argmin())
    top, low = float(extremes.values.max()), float(extremes.values[last])
    residual = float(extremes.residuals[last])
    re = found.criteria.re
    gain = found.gradient**2 / (2 * top) / abs(loss) if top > 0 and loss else math.inf
    curvature = (
        f"The smallest eigenvalue is {low:.3g} (its error is at most {residual:.1g}) beside the "
        f"largest, {top:.3g}; r_e is {_shown(re)}."
    )
    code = 'lla.top_eigenpairs(H, k=5, which="SA")'
    command = "eigenpairs {network} --which SA --k 5"
    if gain > UNTRAINED:
        text = (
            f"Training has not ended here: the gradient has the norm {found.gradient:.3g}, and one "
            f"step against it would lower the loss by {gain:.1%} or more. So this is neither a "
            f"minimum nor a saddle. {curvature}"
        )
        return Finding("Minimum or saddle", text, "note", code, command)
    if low < -residual:
        text = (
            "The loss falls along a direction of negative curvature: this is a saddle, or a slope "
            f"on the way to a minimum. {curvature}"
        )
        return Finding("Minimum or saddle", text, "note", code, command)
    text = f"No negative curvature was found: this is a minimum, as far as can be told. {curvature}"
    return Finding("Minimum or saddle", text, "good", code, command)


def kind(found: Analysis) -> Finding:
    """The kind of the spectrum, and whether K_H1 and K_H05 can be read from it."""
    one, kh1 = found.criteria.kind, _shown(found.criteria.kh1)
    shares = (
        f"The negative share of sum |lambda| w is {_shown(one.negative_share)}, and eigenvalues "
        f"below {NEAR:g} of the largest hold {_shown(one.near_zero)} of it."
    )
    words = {
        "positive": f"The spectrum is positive: K_H1 is {kh1}. {shares}",
        "negative": f"The spectrum is negative, which is rare: check the loss's sign. {shares}",
        "symmetric": (
            "The spectrum is nearly symmetric about zero, as before training or in its first "
            f"epochs: K_H1 is {kh1}. {shares}"
        ),
        "near-singular": (
            f"K_H1 ({kh1}) and K_H05 say little here: the spectrum is near-singular, so that "
            f"eigenvalues near zero decide them, and not the outliers. {shares}"
        ),
        "undecided": f"The kind of the spectrum is not decided by these probes. {shares}",
    }
    weights = {"positive": "good", "symmetric": "note", "undecided": "note"}
    code = "lla.criteria(model, batches, probes=10, steps=200, precision='float64').kind"
    command = "criteria {network} --probes 10 --steps 200 --precision float64"
    return Finding("Spectrum", words[one.name], weights.get(one.name, "warning"), code, command)  # type: ignore[arg-type]


def error(found: Analysis) -> Finding:
    """Whether the standard errors are small, and over what they are."""
    kh1, count = found.criteria.kh1, found.criteria.batches
    code = f"lla.criteria(model, more_batches, target_stderr={GOAL})"
    command = f"criteria {{network}}{{more}} --target-stderr {GOAL}"
    if found.criteria.stderr_kind == "probes":
        text = (
            f"The error of K_H1 ({_shown(kh1)}) is over the random vectors alone, because there is "
            "one batch: it says nothing about other batches. Give several."
        )
        return Finding("Batches", text, "warning", code, command)
    relative = (kh1.stderr or 0.0) / abs(kh1.value) if kh1.value else math.inf
    if relative <= PRECISE:
        text = f"{count} batches tell K_H1 to {relative:.0%} ({_shown(kh1)})."
        return Finding("Batches", text, "good", code, command)
    needed = "" if math.isinf(relative) else _needed(count, relative)
    text = f"{count} batches are few: K_H1 is {_shown(kh1)}.{needed}"
    return Finding("Batches", text, "warning", code, command)


def _shown(estimate: Estimate) -> str:
    return measured(estimate.value, estimate.stderr)


def _needed(count: int, relative: float) -> str:
    return f" About {math.ceil(count * (relative / GOAL) ** 2)} would tell it to {GOAL:.0%}."


def rounding(found: Analysis) -> Finding | None:
    """Whether rounding in the products is small against the criteria; None if it is."""
    share, kh1 = found.criteria.rounding, found.criteria.kh1
    if share is None or not kh1.value or is_small(share, kh1):
        return None
    text = (
        f"Rounding makes up {share:.1g} of a product with the Hessian, which is not small against "
        f"K_H1 ({_shown(kh1)}): compute in float64."
    )
    code = "lla.criteria(model, batches, precision='float64')"
    return Finding("Rounding", text, "warning", code, "criteria {network} --precision float64")


def mode(found: Analysis) -> Finding | None:
    """Whether the mode of BatchNorm and dropout matters; None where there is neither."""
    if found.other is None:
        if not found.why_one_mode:
            return None
        text = f"The other mode was not measured: {found.why_one_mode}"
        return Finding("Mode", text, "note")
    here, there = found.mode, other_mode(found.mode)
    pairs = {"K_H1": (found.criteria.kh1, found.other.kh1), "r_e": (found.criteria.re,
             found.other.re)}  # fmt: skip
    far = {name: two for name, two in pairs.items() if _differ(*two)}
    listed = "; ".join(
        f"{name} is {_shown(a)} in {here} mode and {_shown(b)} in {there} mode"
        for name, (a, b) in (far or pairs).items()
    )
    code = f"lla.criteria(model, batches, mode={there!r})"
    command = f"criteria {{network}} --mode {there}"
    if far:
        text = f"The mode of BatchNorm and dropout matters, so say it with each number: {listed}."
        return Finding("Mode", text, "warning", code, command)
    text = f"Both modes agree within two standard errors: {listed}."
    return Finding("Mode", text, "good", code, command)


def _differ(a: Estimate, b: Estimate) -> bool:
    """Whether two estimates are further apart than two standard errors of their difference."""
    if a.stderr is None or b.stderr is None:
        return False
    return abs(a.value - b.value) > 2 * math.hypot(a.stderr, b.stderr)


def landscape(found: Analysis) -> Finding:
    """How far the loss rises on the plane."""
    one = found.plane.explosion()
    times = f"the largest value is {one.ratio:.3g} times the loss of guessing or of the centre"
    lost = f", and {one.nonfinite} of {one.points} values are not finite" if one.nonfinite else ""
    code = "lla.loss_plane(problem, seed=1).explosion()"
    command = "plane {network} --seed 1"
    words = {
        "none": f"On a plane of two random directions the loss stays moderate: {times}{lost}.",
        "rises": f"On a plane of two random directions the loss rises: {times}{lost}.",
        "explodes": (
            f"On a plane of two random directions the loss explodes: {times}{lost}. Look at a "
            "smaller distance, or at the modes of BatchNorm."
        ),
    }
    weight = {"none": "good", "rises": "note"}.get(one.verdict, "warning")
    return Finding("Landscape", words[one.verdict], weight, code, command)  # type: ignore[arg-type]


def idle(found: Analysis) -> Finding | None:
    """Whether there are parameters that the loss does not depend on; None if there are few."""
    share, blocks = found.blocks.unused_share, found.blocks
    whole = [
        name or "the network"
        for name, size, unused in zip(blocks.names, blocks.sizes, blocks.unused, strict=True)
        if size == unused
    ]
    if share <= UNUSED and not whole:
        return None
    named = f" All of {first_of(whole, 4)} are among them." if whole else ""
    text = (
        f"The loss does not depend on {share:.1%} of the parameters: on these batches their "
        f"gradient is 0, and so is their part of {blocks.traces.shape[1]} products.{named} Dead "
        "units do this, and layers that are never called."
    )
    return Finding("Unused parameters", text, "warning" if whole else "note",
                   "analysis.blocks.to_frame()")  # fmt: skip


def concentrated(found: Analysis) -> Finding | None:
    """Whether few layers hold most of the trace; None where the trace is not told."""
    blocks, total = found.blocks, found.blocks.total
    if len(blocks.names) < 2 or total.stderr is None or abs(total.value) <= 2 * total.stderr:
        return None
    shares = [blocks.share(i) for i in range(len(blocks.names))]
    first = max(range(len(shares)), key=lambda i: shares[i].value)
    part = blocks.sizes[first] / blocks.sizes.sum()
    text = (
        f"The trace of the Hessian is {_shown(total)}. The largest share of it is in "
        f"{blocks.names[first] or 'the network itself'}, which has {part:.1%} of the "
        f"parameters: {_shown(shares[first])}."
    )
    code, command = "lla.flatness(model, batches)", "flatness {network}"
    return Finding("Layers", text, "note", code, command)
