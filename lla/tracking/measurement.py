"""One measurement of the criteria in a training: checked beforehand, and what came of it."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from lla.arguments import number_of_draws, number_of_steps
from lla.errors import in_one_line, unknown_name
from lla.hessian.accuracy import Target, targets_of
from lla.hessian.criteria.criteria import Criteria, criteria
from lla.hessian.criteria.goal import check_scope
from lla.hessian.products.routes import check_route
from lla.hessian.ratios import check_reading
from lla.model_call import unwrapped
from lla.problem import Problem
from lla.process_wide import CALLS
from lla.ranks import alone
from lla.tracking.devices import on_device
from lla.tracking.processes import check_measurable


@dataclass(frozen=True)
class Outcome:
    """What came of a measurement: criteria, or the error in their place."""

    seconds: float
    found: Criteria | None = None
    error: Exception | None = None
    said: list[warnings.WarningMessage] = field(default_factory=list)

    @property
    def note(self) -> str:
        """The error and the warnings in words."""
        texts = [str(each.message) for each in self.said]
        return "; ".join(([in_one_line(self.error)] if self.error else []) + texts)


@dataclass(frozen=True)
class Measurement:
    """The criteria of a model as it is whenever it is asked.

    Args:
        model: any module.
        batches: see `lla.Problem`; they are moved to the model's device.
        options: of `lla.criteria`.
    """

    model: nn.Module
    batches: Any
    options: Mapping[str, Any]

    def check(self) -> None:
        """Find what cannot be measured, before a training begins.

        Raises:
            InputError: see `lla.criteria`.
        """
        known = list(inspect.signature(criteria).parameters)[2:]
        for name in self.options:
            if name not in known:
                raise unknown_name("option of lla.criteria", name, known)
        for name, check in _CHECKS.items():
            if name in self.options:
                check(self.options[name])
        target = self.options.get("target_stderr")
        if target is not None:
            stderr = target.stderr if isinstance(target, Target) else target
            targets_of(stderr, self.options.get("legacy", False))
        of_problem = inspect.signature(Problem).parameters
        problem = self._placed(Problem, {n: v for n, v in self.options.items() if n in of_problem})
        problem.space.select(self.options.get("parameters"))

    def attempt(self) -> Outcome:
        """Measure now; an error and warnings are part of the outcome."""
        device = _device_of(self.model)
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # what training has still to do is not counted here
        start = time.perf_counter()
        found, error = None, None
        # Warning filters belong to the whole process.
        with CALLS, warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                with without_hooks(self.model):
                    found = self._placed(criteria, self.options)
            except Exception as raised:  # of the caller's own code, too
                error = raised
        return Outcome(time.perf_counter() - start, found, error, said)

    def _placed(self, make: Callable[..., Any], options: Mapping[str, Any]) -> Any:
        """Call a function with the model and the batches, on the device of the model."""
        model = unwrapped(self.model)
        check_measurable(model, options.get("mode", "eval"))
        with alone():  # the other processes train
            return make(model, on_device(self.batches, _device_of(model)), **options)


def _device_of(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


@contextmanager
def without_hooks(model: nn.Module) -> Iterator[None]:
    """The model without the hooks of its parameters, which are back afterwards.

    They are for the gradients of training: they clip or record them, or make a step. The Hessian is
    that of the loss without them.

    >>> model = torch.nn.Linear(2, 1)
    >>> _ = model.bias.register_hook(lambda gradient: 2 * gradient)
    >>> with without_hooks(model):
    ...     torch.autograd.grad(model(torch.ones(2)), model.bias)
    (tensor([1.]),)
    >>> torch.autograd.grad(model(torch.ones(2)), model.bias)
    (tensor([2.]),)
    """
    hooks = [p._backward_hooks for p in model.parameters() if p._backward_hooks]
    kept = [dict(each) for each in hooks]
    for each in hooks:
        each.clear()
    try:
        yield
    finally:
        for each, own in zip(hooks, kept, strict=True):
            each.update(own)


_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "probes": partial(number_of_draws, "probes"),
    "steps": number_of_steps,
    "reading": check_reading,
    "route": check_route,
    "scope": check_scope,
}
