"""Other libraries' spectra of the same Hessian: one adapter each, at equal work.

Every adapter makes `probes` runs of `steps` Lanczos steps and gives the nodes and weights that the
library itself found. The libraries draw probes of their own; the first one is caught on its way to
the first product, so that its moments can be checked. Adapters change what they call and the
model that they are given: each runs in a process of its own, see `benchmarks.isolate`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import lla
from benchmarks.problems import Pairs, device, noise, one_pass
from benchmarks.timing import timed
from lla.models import build
from lla.probes import rademacher

# Checkouts to take instead of what is installed, or where nothing can be.
PYHESSIAN = "LLA_BENCH_PYHESSIAN"  # of github.com/amirgholami/PyHessian
AUTHORS = "LLA_BENCH_AUTHORS"  # of github.com/GabdullinN/loss-landscape-analysis
WARM = 9  # forward and backward passes from which the calibration takes its median


@dataclass(frozen=True)
class EqualWork:
    """What every library is given."""

    network: str
    shape: tuple[int, ...]
    batch: int  # examples a batch, the same in each: one library averages unequal ones wrongly
    batches: int
    steps: int  # Lanczos steps a probe
    probes: int
    seed: int = 0

    def __str__(self) -> str:
        probes = f", {self.probes} probes" if self.probes > 1 else ""
        return f"{self.network} {self.batches} x {self.batch}{probes}"

    def make(self, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Pairs]:
        """The network at initialisation in eval mode, and batches of noise."""
        model = build(self.network, seed=self.seed).eval().to(device(), dtype)
        pairs = noise(self.shape, self.batch, self.batches, dtype=dtype, seed=self.seed)
        return model, pairs


@dataclass(frozen=True)
class Quadrature:
    """What a library found."""

    nodes: np.ndarray  # [probes, steps]
    weights: np.ndarray  # [probes, steps]
    products: int  # Hessian-vector products with the whole of the data
    start: np.ndarray  # [P] the first probe, as it went into the first product


@dataclass(frozen=True)
class Measurement:
    """What a library found, and its seconds beside those of the calibration kernel."""

    quadrature: Quadrature
    seconds: float
    passes: float  # seconds of one forward and backward pass over all batches


Run = Callable[[nn.Module, Pairs, EqualWork], Quadrature]


@dataclass(frozen=True)
class Adapter:
    """A library."""

    name: str
    package: str
    run: Run
    distribution: str | None = None  # the name under which it is installed; None: it cannot be
    checkout: str | None = None  # environment variable that names one to take instead

    @property
    def folder(self) -> str | None:
        """The checkout to take, if one is named."""
        return os.environ.get(self.checkout) if self.checkout else None

    def missing(self) -> str | None:
        """Why it cannot run here; None if it can."""
        if self.folder:
            found = any((place / self.package).is_dir() for place in _folders(self.folder))
            return (
                None if found else f"the checkout that {self.checkout} names has no {self.package}"
            )
        if self.distribution is None:
            return f"{self.checkout} names no checkout with {self.package}"
        if importlib.util.find_spec(self.package) is None:
            return f"{self.package} is not installed: pip install -c constraints.txt -e '.[peers]'"
        return None

    @property
    def version(self) -> str:
        """The version of what runs."""
        if self.folder or self.distribution is None:
            return "checkout"
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:  # it is on Python's path
            return "checkout"


def measure(name: str, work: EqualWork) -> Measurement:
    """Let one library do the work, between two calibrations, after a small run to warm it up.

    Args:
        name: of an adapter.
        work: what to do.
    """
    (adapter,) = (adapter for adapter in ADAPTERS if adapter.name == name)
    # what happens once a process is no product's: torch imports its compiler for forward mode
    small = replace(work, batch=2, steps=3, probes=1)
    adapter.run(*small.make(), small)
    model, pairs = work.make()
    step = one_pass(model, pairs)
    step()
    passes = [timed(step)[1] for _ in range(WARM)]
    torch.manual_seed(work.seed)  # where a library draws its probes from the global generator
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


class _WatchedOperator:
    """A library's operator that counts its products and keeps the first vector."""

    def __init__(self, operator: Any) -> None:
        self._operator = operator
        self.seen = _Products()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operator, name)

    def __matmul__(self, vector: Tensor) -> Tensor:
        self.seen.note(vector)
        return self._operator @ vector

    matvec = __matmul__


class _Products:
    """The number of products, and the vector of the first."""

    def __init__(self) -> None:
        self.products = 0
        self.start: np.ndarray | None = None

    def note(self, *vector: Tensor) -> None:
        """Note one product with a vector, whole or in parts."""
        if self.start is None:
            flat = torch.cat([part.detach().reshape(-1) for part in vector])
            self.start = flat.double().cpu().numpy()
        self.products += 1


def _watch(owner: Any, name: str, seen: _Products) -> None:
    """Put a function in the place of an owner's that notes its last argument, a vector in parts."""
    function = getattr(owner, name)

    def watched(*arguments: Any) -> Any:
        seen.note(*arguments[-1])
        return function(*arguments)

    setattr(owner, name, watched)


def _curvlinops(model: nn.Module, pairs: Pairs, work: EqualWork) -> Quadrature:
    from curvlinops import HessianLinearOperator
    from curvlinops.papyan2020traces.spectrum import fast_lanczos

    hessian = _WatchedOperator(
        HessianLinearOperator(
            model,
            nn.CrossEntropyLoss(),
            list(model.parameters()),
            pairs,
            check_deterministic=False,  # two more passes, which the others do not make
        )
    )
    runs = [fast_lanczos(hessian, work.steps) for _ in range(work.probes)]
    return _quadrature([v for v, _ in runs], [u[0] ** 2 for _, u in runs], hessian.seen)


def _eigenthings(model: nn.Module, pairs: Pairs, work: EqualWork) -> Quadrature:
    from hessian_eigenthings import HessianOperator, spectral_density, supervised_loss

    hessian = _WatchedOperator(
        HessianOperator(model, pairs, supervised_loss(nn.CrossEntropyLoss()))
    )
    found = spectral_density(
        hessian, num_runs=work.probes, lanczos_steps=work.steps, seed=work.seed, num_grid_points=2
    )
    return _quadrature(found.raw_eigenvalues, found.raw_weights, hessian.seen)


def _pyhessian(model: nn.Module, pairs: Pairs, work: EqualWork) -> Quadrature:
    with _first(PYHESSIAN):
        module = importlib.import_module("pyhessian.hessian")
    seen, cuda, loss = _Products(), pairs[0][0].is_cuda, nn.CrossEntropyLoss()
    if len(pairs) == 1:
        _watch(module, "hessian_vector_product", seen)
        hessian = module.hessian(model, loss, data=pairs[0], cuda=cuda)
    else:
        hessian = module.hessian(model, loss, dataloader=pairs, cuda=cuda)
        _watch(hessian, "dataloader_hv_product", seen)
    nodes, weights = hessian.density(iter=work.steps, n_v=work.probes)
    # some versions give all components of the eigenvectors, squared: the first are the weights
    return _quadrature(nodes, [w[0] if np.ndim(w) == 2 else w for w in weights], seen)


def _authors(model: nn.Module, pairs: Pairs, work: EqualWork) -> Quadrature:
    if len(pairs) > 1:
        raise NotImplementedError("it takes one batch")
    with _first(AUTHORS):
        module = importlib.import_module("src_lla.hessian.hessian")
        metrics = importlib.import_module("src_lla.loss_landscapes.metrics")
    seen = _Products()
    _watch(module, "hes_prod", seen)
    (x, y) = pairs[0]
    hessian = module.hessian_calc(model, metrics.Loss(nn.CrossEntropyLoss(), x, y, x.device))
    nodes, weights = hessian.esd_calc(n_iter=work.steps, n_v=work.probes)
    return _quadrature(nodes, weights, seen)


def _quadrature(nodes: Sequence[Any], weights: Sequence[Any], seen: _Products) -> Quadrature:
    if seen.start is None:
        raise RuntimeError("no product was seen")
    return Quadrature(_rows(nodes), _rows(weights), seen.products, seen.start)


def _rows(lists: Sequence[Any]) -> np.ndarray:
    """Real numbers in float64, whatever a library gives: tensors, arrays or lists, complex too."""
    rows = [x.detach().cpu().numpy() if isinstance(x, Tensor) else np.array(x) for x in lists]
    return np.real(np.stack(rows)).astype(np.float64)


# --- where they are


@contextmanager
def _first(variable: str) -> Iterator[None]:
    """Import from a checkout that an environment variable names, if it names one."""
    checkout = os.environ.get(variable)
    added = [str(folder) for folder in _folders(checkout)] if checkout else []
    sys.path[:0] = added
    try:
        yield
    finally:
        for folder in added:
            sys.path.remove(folder)


def _folders(checkout: str) -> list[Path]:
    """The folders of a checkout that packages may lie in."""
    return [Path(checkout), Path(checkout) / "src"]


ADAPTERS = (
    Adapter("lla", "lla", _lla, "lla"),
    Adapter("PyHessian", "pyhessian", _pyhessian, "pyhessian", PYHESSIAN),
    Adapter("curvlinops", "curvlinops", _curvlinops, "curvlinops-for-pytorch"),
    Adapter("hessian-eigenthings", "hessian_eigenthings", _eigenthings, "hessian-eigenthings"),
    Adapter("authors' LLA", "src_lla", _authors, checkout=AUTHORS),
)
