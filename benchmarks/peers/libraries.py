"""Other libraries' spectra of the same Hessian: one adapter each, at equal work.

Every adapter makes `probes` runs of `steps` Lanczos steps and gives the nodes and weights that the
library itself found. The libraries draw their own probes. The adapter catches the first one at the
first product, so that its moments can be checked, and notes when each product began. Adapters
change the library that they call and the model that they are given, so each runs in a process of
its own, see `benchmarks.isolate`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module, metadata, util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import lla
from benchmarks.problems import Pairs, network, one_pass
from benchmarks.timing import timed
from lla.probes import rademacher

# Environment variables that name a checkout to take in place of the installed package, if any.
PYHESSIAN = "LLA_BENCH_PYHESSIAN"  # of github.com/amirgholami/PyHessian
AUTHORS = "LLA_BENCH_AUTHORS"  # of github.com/GabdullinN/loss-landscape-analysis
WARM = 9  # the calibration is the median of this many forward and backward passes


@dataclass(frozen=True)
class EqualWork:
    """The work that every library gets."""

    network: str
    shape: tuple[int, ...]
    batch: int  # examples in each batch; equal, since one library averages unequal batches wrongly
    batches: int
    steps: int  # Lanczos steps a probe
    probes: int
    seed: int = 0  # of the probes

    def __str__(self) -> str:
        probes = f", {self.probes} probes" if self.probes > 1 else ""
        return f"{self.network} {self.batches} x {self.batch}{probes}"

    def make(self, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Pairs]:
        """The network at initialisation in eval mode, and batches of noise."""
        return network(self.network, self.shape, self.batch, self.batches, dtype=dtype)


@dataclass(frozen=True)
class Quadrature:
    """What a library found."""

    nodes: np.ndarray  # [probes, steps]
    weights: np.ndarray  # [probes, steps]
    products: int  # Hessian-vector products with the whole of the data
    start: np.ndarray  # [P] the first probe, as passed to the first product
    # [products] when each product began, by `time.perf_counter`; empty for this library
    began: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class Measurement:
    """What a library found, and its seconds beside those of the calibration kernel."""

    quadrature: Quadrature
    seconds: float
    passes: float  # seconds of one forward and backward pass over all batches


Run = Callable[[nn.Module, Pairs, EqualWork], Quadrature]


@dataclass(frozen=True)
class Adapter:
    """A library, and how to run it."""

    name: str
    package: str
    run: Run
    distribution: str | None = None  # the name under which it is installed; None: it cannot be
    checkout: str | None = None  # environment variable that names a checkout to take instead

    @property
    def folders(self) -> list[Path]:
        """Folders that may hold its package, in the checkout that the variable names."""
        named = os.environ.get(self.checkout) if self.checkout else None
        return [Path(named), Path(named, "src")] if named else []

    def missing(self) -> str | None:
        """Why it cannot run here; None if it can."""
        if self.folders:
            if any((folder / self.package).is_dir() for folder in self.folders):
                return None
            return f"the checkout that {self.checkout} names has no {self.package}"
        if self.distribution is None:
            return f"{self.checkout} names no checkout with {self.package}"
        if util.find_spec(self.package) is None:
            return f"{self.package} is not installed: pip install -c constraints.txt -e '.[peers]'"
        return None

    @property
    def version(self) -> str:
        """The version that runs."""
        if self.folders or self.distribution is None:
            return "checkout"
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:  # this library is on Python's path
            return "checkout"


def measure(name: str, work: EqualWork) -> Measurement:
    """Let one library do the work: a small run to warm up, calibration, work, calibration.

    Args:
        name: of an adapter.
        work: what to do.
    """
    (adapter,) = (adapter for adapter in ADAPTERS if adapter.name == name)
    sys.path[:0] = map(str, adapter.folders)  # a checkout has priority over an installed package
    # warm up: torch imports its compiler for forward mode once per process
    small = replace(work, batch=2, steps=3, probes=1)
    adapter.run(*small.make(), small)
    model, pairs = work.make()
    step = one_pass(model, pairs)
    step()
    passes = [timed(step)[1] for _ in range(WARM)]
    torch.manual_seed(work.seed)  # some libraries draw their probes from the global generator
    quadrature, duration = timed(lambda: adapter.run(model, pairs, work))
    model.zero_grad(set_to_none=True)
    passes += [timed(step)[1] for _ in range(WARM)]
    return Measurement(quadrature, duration, float(np.median(passes)))


# --- this library


def _lla(model: nn.Module, pairs: Pairs, work: EqualWork) -> Quadrature:
    operator = lla.HessianOperator(lla.Problem(model, pairs))
    spectrum = lla.spectral_density(operator, work.probes, work.steps, work.seed)
    start = rademacher(spectrum.size, operator.theta, work.seed, 0, 0)
    return Quadrature(
        spectrum.eigenvalues, spectrum.weights, spectrum.matvecs, start.double().cpu().numpy()
    )


# --- libraries that are installed


@dataclass
class _Seen:
    """The products that were seen."""

    start: np.ndarray | None = None  # [P] the vector of the first one
    began: list[float] = field(default_factory=list)  # when each began


def _watch(owner: Any, name: str) -> _Seen:
    """Replace a function of an owner by one that also notes when it is called, and with what.

    Returns:
        The calls, to which each one is added.
    """
    function = getattr(owner, name)
    seen = _Seen()

    def watched(*arguments: Any) -> Any:
        if seen.start is None:
            vector = arguments[-1]
            parts = [vector] if isinstance(vector, Tensor) else vector
            flat = torch.cat([part.detach().reshape(-1) for part in parts])
            seen.start = flat.double().cpu().numpy()
        seen.began.append(time.perf_counter())
        return function(*arguments)

    setattr(owner, name, watched)
    return seen


def _curvlinops(model: nn.Module, pairs: Pairs, work: EqualWork) -> Quadrature:
    from curvlinops import HessianLinearOperator
    from curvlinops.papyan2020traces.spectrum import fast_lanczos

    seen = _watch(HessianLinearOperator, "__matmul__")
    # its checks are off: they would add two passes, which the others do not make
    hessian = HessianLinearOperator(
        model, nn.CrossEntropyLoss(), list(model.parameters()), pairs, check_deterministic=False
    )
    runs = [fast_lanczos(hessian, work.steps) for _ in range(work.probes)]
    return _quadrature([v for v, _ in runs], [u[0] ** 2 for _, u in runs], seen)


def _eigenthings(model: nn.Module, pairs: Pairs, work: EqualWork) -> Quadrature:
    from hessian_eigenthings import HessianOperator, spectral_density, supervised_loss

    hessian = HessianOperator(model, pairs, supervised_loss(nn.CrossEntropyLoss()))
    seen = _watch(hessian, "matvec")
    found = spectral_density(
        hessian, num_runs=work.probes, lanczos_steps=work.steps, seed=work.seed, num_grid_points=2
    )
    return _quadrature(found.raw_eigenvalues, found.raw_weights, seen)


def _pyhessian(model: nn.Module, pairs: Pairs, work: EqualWork) -> Quadrature:
    module = import_module("pyhessian.hessian")
    given = {"data": pairs[0]} if len(pairs) == 1 else {"dataloader": pairs}
    seen = _watch(module, "hessian_vector_product")
    hessian = module.hessian(model, nn.CrossEntropyLoss(), cuda=pairs[0][0].is_cuda, **given)
    if len(pairs) > 1:
        seen = _watch(hessian, "dataloader_hv_product")
    nodes, weights = hessian.density(iter=work.steps, n_v=work.probes)
    # some versions give all components of the eigenvectors, squared: the first are the weights
    return _quadrature(nodes, [w[0] if np.ndim(w) == 2 else w for w in weights], seen)


def _authors(model: nn.Module, pairs: Pairs, work: EqualWork) -> Quadrature:
    if len(pairs) > 1:
        raise NotImplementedError("it takes one batch")
    module = import_module("src_lla.hessian.hessian")
    losses = import_module("src_lla.loss_landscapes.metrics")
    seen = _watch(module, "hes_prod")
    x, y = pairs[0]
    hessian = module.hessian_calc(model, losses.Loss(nn.CrossEntropyLoss(), x, y, x.device))
    nodes, weights = hessian.esd_calc(n_iter=work.steps, n_v=work.probes)
    return _quadrature(nodes, weights, seen)


def _quadrature(nodes: Sequence[Any], weights: Sequence[Any], seen: _Seen) -> Quadrature:
    if seen.start is None:
        raise RuntimeError("no product was seen")
    began = np.array(seen.began)
    return Quadrature(_rows(nodes), _rows(weights), len(began), seen.start, began)


def _rows(lists: Sequence[Any]) -> np.ndarray:
    """Real float64 numbers from the tensors, arrays or lists, even complex, of a library."""
    rows = [x.detach().cpu().numpy() if isinstance(x, Tensor) else np.array(x) for x in lists]
    return np.real(np.stack(rows)).astype(np.float64)


ADAPTERS = (
    Adapter("lla", "lla", _lla, "lla"),
    Adapter("PyHessian", "pyhessian", _pyhessian, "pyhessian", PYHESSIAN),
    Adapter("curvlinops", "curvlinops", _curvlinops, "curvlinops-for-pytorch"),
    Adapter("hessian-eigenthings", "hessian_eigenthings", _eigenthings, "hessian-eigenthings"),
    Adapter("authors' LLA", "src_lla", _authors, checkout=AUTHORS),
)
