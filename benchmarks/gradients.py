"""Hessian products in units of an eager gradient, beside those that curvlinops publishes.

`python -m benchmarks.gradients --size paper --out DIR` times gradient and products in turn, all in
float32 without TF32, on networks of the sizes of curvlinops' own benchmark. Where curvlinops is
installed, its products are timed in the same run: as they are, and under `torch.compile`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import lla
from benchmarks.language import LanguageCase
from benchmarks.problems import RGB, Case, NetworkCase, configuration, device, one_pass
from benchmarks.timing import in_turn, median
from lla.precision import full_precision
from lla.probes import rademacher
from paper_tables.engine import machine, store
from paper_tables.engine.records import Record, update_records

TABLE = "gradients"
OURS, THEIRS, COMPILED = "lla", "curvlinops", "curvlinops, compiled"
# compiled products in eager gradients on an RTX A6000, as their developers print them
PUBLISHED = {"mlp": "1.06", "resnet18": "1.69", "resnet50": "2.01", "gpt": "2.80"}
NOTE = "at initialisation, on noise; float32 without TF32"
ROUNDS, WARMUP = 7, 2


@dataclass(frozen=True)
class Perceptron:
    """A network of fully connected layers with ReLU, and a batch of noise."""

    batch: int
    widths: tuple[int, ...] = (784, 1024, 512, 256, 128, 64, 10)

    name = "mlp"

    @property
    def shape(self) -> tuple[int, ...]:
        """The widths of input, layers and output."""
        return self.widths

    def __str__(self) -> str:
        return f"mlp {self.batch}"

    def make(self) -> tuple[lla.Problem, Callable[[], None]]:
        """The problem, and one forward and backward pass in ordinary PyTorch."""
        with torch.random.fork_rng():  # the caller's random state stays
            torch.manual_seed(0)
            pairs = zip(self.widths, self.widths[1:], strict=False)
            layers = [layer for a, b in pairs for layer in (nn.Linear(a, b), nn.ReLU())][:-1]
            x = torch.rand(self.batch, self.widths[0])
            y = torch.randint(self.widths[-1], (self.batch,))
        model, batch = nn.Sequential(*layers).eval().to(device()), (x.to(device()), y.to(device()))
        return lla.Problem(model, batch), one_pass(model, [batch])


CASES: dict[str, list[Case]] = {
    "tiny": [Perceptron(8, (20, 10, 10)), LanguageCase(2, 8, width=16, blocks=1, words=20)],
    "paper": [
        Perceptron(512),
        NetworkCase("resnet18", 512, (RGB, 32, 32)),
        NetworkCase("resnet50", 64, (RGB, 224, 224)),
        LanguageCase(4, 1024, width=768, blocks=12, words=50304, heads=12),
    ],
}


def measure(case: Case, rounds: int = ROUNDS) -> list[Record]:
    """Time one network, and make its records.

    Args:
        case: the network and its batch.
        rounds: repetitions.

    Returns:
        The seconds of a gradient; for each library, how many gradients a product takes and its
        relative difference from ours, or why there is none. The difference is not always rounding:
        PyTorch's forward mode is wrong for the weights of LayerNorm, which we replace.
    """
    problem, step = case.make()
    operator = lla.HessianOperator(problem)
    v = rademacher(operator.shape[0], operator.theta, 0)
    products: dict[str, Callable[[], Tensor]] = {OURS: partial(operator.__matmul__, v)}
    differences, failed = {}, {}
    with full_precision(problem.device), torch.no_grad():
        expected = products[OURS]()
        for name, make in ((THEIRS, _curvlinops), (COMPILED, _compiled)):
            try:
                product = make(problem, v)
                difference = torch.linalg.vector_norm(product() - expected)
            except Exception as error:  # whatever another library and a compiler may raise
                failed[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            else:
                products[name] = product
                differences[name] = float(difference / torch.linalg.vector_norm(expected))
    with full_precision(problem.device):
        times = in_turn([step, *products.values()], rounds, WARMUP)
    timing = machine.environment(device())
    settings = {"network": case.name, "batch": case.batch, "shape": list(case.shape)}
    record = partial(
        Record, table=TABLE, row=str(case), seed=0, dtype="float32", batch_size=case.batch,
        note=NOTE, config=configuration(settings, timing["device"]), **timing,
    )  # fmt: skip
    measured = partial(record, fidelity="substitute")
    with_error = dict(zip(("value", "stderr"), median(times[:, 0]), strict=True))
    found = [measured(column="gradient", metric="seconds", n=rounds, **with_error)]
    for i, name in enumerate(products, start=1):
        with_error = dict(zip(("value", "stderr"), median(times[:, i] / times[:, 0]), strict=True))
        found.append(measured(column=name, metric="gradients", n=rounds, **with_error))
    found += [
        measured(column=name, metric="difference", value=value)
        for name, value in differences.items()
    ]
    found += [
        record(column=name, metric="gradients", value=None, verdict="not_run", reason=reason)
        for name, reason in failed.items()
    ]
    return found


def _curvlinops(problem: lla.Problem, v: Tensor) -> Callable[[], Tensor]:
    from curvlinops import HessianLinearOperator

    model, (batch,) = problem.model, problem.batches
    hessian = HessianLinearOperator(
        model, nn.CrossEntropyLoss(), list(model.parameters()), [batch[:2]],
        check_deterministic=False,
    )  # fmt: skip

    def product() -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):  # the others have no second derivative
            return hessian @ v

    return product


def _compiled(problem: lla.Problem, v: Tensor) -> Callable[[], Tensor]:
    return torch.compile(_curvlinops(problem, v))


def line(records: list[Record]) -> str:
    """One line on the records of one network."""
    found = {(record.column, record.metric): record for record in records}
    parts = [f"gradient {found['gradient', 'seconds'].value:.3g} s"]
    for name in (OURS, THEIRS, COMPILED):
        record, difference = found[name, "gradients"], found.get((name, "difference"))
        text = f"{record.value:.2f} ± {record.stderr:.2f} gradients" if record.value else "not run"
        other = record.reason or (f"{difference.value:.0e} from ours" if difference else "")
        parts.append(f"{name} {text}" + (f" ({other})" if other else ""))
    published = PUBLISHED[str(records[0].config["network"])]
    return f"{records[0].row}: {'; '.join(parts)}; curvlinops publishes {published}"


def main(arguments: list[str] | None = None) -> None:
    """Time all networks of a size; write and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gradients", description=__doc__)
    parser.add_argument("--size", choices=CASES, default="paper")
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    options = parser.parse_args(arguments)
    torch.backends.mha.set_fastpath_enabled(False)  # it has no derivatives
    for case in CASES[options.size]:
        new = measure(case)
        keys = {record.key for record in new}

        def merge(old: list[Record], new: Any = new, keys: Any = keys) -> list[Record]:
            return [record for record in old if record.key not in keys] + new

        update_records(store.records_file(options.out, TABLE), merge)
        print(line(new), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
