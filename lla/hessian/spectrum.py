"""Stochastic Lanczos quadrature: the spectral density of the Hessian seen by random probes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor
from tqdm.auto import tqdm

from lla.errors import InputError
from lla.hessian.lanczos import Lanczos, Tridiagonal
from lla.hessian.legacy import legacy_tridiagonal
from lla.hessian.operator import HessianOperator
from lla.hessian.plans import Plan, attempt, bytes_an_example, cost_of, describe, plans
from lla.hessian.spread import spread
from lla.hessian.targets import FEWEST, Target, check_target, reached, targets_of
from lla.probes import rademacher
from lla.storage import load_result, save_result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Spectrum:
    """Nodes and weights of stochastic Lanczos quadrature, one row a probe.

    For a probe v of norm 1, `sum_i w_i f(lambda_i)` approximates v' f(H) v, exactly so for
    polynomials f of degree below 2 steps (Golub and Meurant 2010); its mean over probes
    approximates trace(f(H)) / P (Ubaru, Chen and Saad 2017).
    """

    eigenvalues: np.ndarray  # [probes, steps] float64, ascending; 0 after the first counts[i]
    weights: np.ndarray  # [probes, steps], each row sums to 1; 0 after the first counts[i]
    counts: np.ndarray  # [probes] int, nodes that are real
    size: int  # P
    steps: int  # Lanczos steps made, at most P
    seed: int
    dtype: str  # of the products, "float32" or "float64"
    legacy: bool  # the imitated public code's Lanczos, see `lla.hessian.legacy`
    matvecs: int  # Hessian-vector products that it cost
    plan: str = ""  # how it was made, and what ran out of memory before, see `lla.hessian.plans`

    @property
    def probes(self) -> int:
        """Number of probes."""
        return len(self.counts)

    def moment(self, order: int) -> np.ndarray:
        """The moments v' H^order v, one a probe [probes]."""
        return (self.weights * self.eigenvalues**order).sum(1)

    def grid(self, points: int = 2000, margin: float = 0.05) -> np.ndarray:
        """Equally spaced eigenvalues [points] over all nodes and a margin on either side."""
        nodes = self.eigenvalues[np.arange(self.steps) < self.counts[:, None]]
        low, high = nodes.min(), nodes.max()
        width, size = high - low, max(abs(low), abs(high))
        room = margin * (width if width > 1e-9 * size else size or 1.0)
        return np.linspace(low - room, high + room, points)

    def density(self, grid: np.ndarray | None = None, sigma: float | None = None) -> np.ndarray:
        """The density with every node broadened to a Gaussian, mean over the probes.

        Args:
            grid: eigenvalues [points] at which to evaluate; `self.grid()` by default.
            sigma: standard deviation of the Gaussians; a 200th of the grid's range by default.

        Returns:
            The density [points], in units of 1 / eigenvalue; it integrates to 1.
        """
        grid = self.grid() if grid is None else np.asarray(grid, dtype=np.float64)
        sigma = _sigma(grid) if sigma is None else sigma
        if not sigma > 0:
            raise InputError(f"sigma is {sigma}: the broadening must be positive")
        distance = (grid[:, None] - self.eigenvalues.ravel()) / sigma  # [points, probes * steps]
        bells = np.exp(-0.5 * distance**2) / (sigma * np.sqrt(2 * np.pi))
        return bells @ self.weights.ravel() / self.probes

    def floor(self, grid: np.ndarray | None = None, sigma: float | None = None) -> float:
        """What is too small to be drawn: a tenth of the density of one eigenvalue among the P.

        Args:
            grid: of the density.
            sigma: of the density; its default is that of `density`.

        >>> two = Spectrum(np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]]), np.array([2]), 2, 2, 0,
        ...                "float64", False, 2)
        >>> at_one = two.density(np.array([1.0]), sigma=0.01)[0]  # half of the weight is there
        >>> round(float(two.floor(sigma=0.01) / at_one), 3)
        0.1
        """
        sigma = _sigma(self.grid() if grid is None else grid) if sigma is None else sigma
        return 0.1 / (self.size * sigma * math.sqrt(2 * math.pi))

    def plot(self, ax: Axes | None = None, **options: Any) -> Figure:
        """Draw the density on a logarithmic axis, see `lla.plotting.plot_spectrum`."""
        from lla.plotting import plot_spectrum  # drawing knows results, not the other way round

        return plot_spectrum(self, ax=ax, **options)

    def save(self, path: str | Path) -> None:
        """Write to an npz file."""
        save_result(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Spectrum:
        """Read from an npz file."""
        return load_result(cls, path)


def _sigma(grid: np.ndarray) -> float:
    """The broadening by default."""
    return float(grid.max() - grid.min()) / 200


def spectral_density(
    operator: HessianOperator,
    probes: int = 10,
    steps: int = 100,
    seed: int = 0,
    *,
    legacy: bool = False,
    stream: int = 0,
    together: int = 1,
    basis_dtype: torch.dtype | None = None,
    basis_device: torch.device | str | None = None,
    memory: int | None = None,
    target_stderr: Target | None = None,
    progress: bool = False,
) -> Spectrum:
    """Spectral density of a Hessian by stochastic Lanczos quadrature.

    From each Rademacher probe, `steps` Lanczos steps with full reorthogonalisation; the tridiagonal
    matrix is diagonalised in float64 (Golub and Welsch 1969). A run that exhausts its Krylov space
    ends with fewer nodes. What should not fit into memory, or runs out of it, is made by a leaner
    plan, see `lla.hessian.plans`.

    Args:
        operator: the Hessian.
        probes: number of random start vectors (the paper's n_hes).
        steps: Lanczos steps a probe (m); more than P are clamped, with a warning.
        seed: of the probes; probe i is the same vector whatever their number.
        legacy: imitate the authors' public code instead, see `lla.hessian.legacy`.
        stream: a second index of the probes' seed, so that batches get probes of their own.
        together: probes that advance side by side; needs so many bases at once.
        basis_dtype: type in which the Lanczos vectors are stored; the operator's by default.
        basis_device: device on which they are stored; the operator's by default.
        memory: bytes to take on the operator's device beside it; what is available by default.
        target_stderr: add probes until the standard error over probes of r_e and K_H1, as
            `spectrum_criteria` has them, is so much of their means, or see `lla.criteria` for a
            mapping. `probes` is then the most; if they do not reach it, there is a warning. For
            the criteria alone `lla.criteria` needs far fewer products.
        progress: show a progress bar.

    Raises:
        InputError: fewer probes or steps than one; a type or device of the basis for `legacy`,
            which keeps none; a target that is not positive, of no criterion, or with legacy.
        NonFiniteError: a product is not finite.
        InsufficientMemoryError: it fits into memory by no plan.
    """
    check_target(target_stderr, "probes", None, legacy=legacy)
    steps = clamped(steps, operator.shape[0])
    device = None if basis_device is None else str(basis_device)
    asked = Plan(None, operator.route, basis_dtype, device)
    # a kept graph was paid for when the operator was made
    example = bytes_an_example(operator.problem, operator.space) if asked.route == "fresh" else 0.0
    cost = cost_of(operator.problem, operator.space, 0 if legacy else steps, example, together)

    def run(plan: Plan) -> Spectrum:
        same = (plan.micro_batch, plan.route) == (asked.micro_batch, asked.route)
        make = partial(
            quadrature,
            operator if same else operator.leaner(plan.micro_batch),
            steps=steps,
            seed=seed,
            legacy=legacy,
            stream=stream,
            together=together,
            basis_dtype=plan.basis_dtype,
            basis_device=plan.basis_device,
            progress=progress,
        )
        if target_stderr is None:
            return make(probes)
        return _until(make, probes, targets_of(target_stderr))

    candidates = plans(operator.problem, asked, cost, memory)
    spectrum, plan, failed = attempt(run, candidates, operator.device)
    return replace(spectrum, plan=describe(plan, asked, failed))


def _until(make: Callable[..., Spectrum], probes: int, targets: Mapping[str, float]) -> Spectrum:
    """A spectrum of as many probes as the targets take, looked at after every fifth part more.

    Args:
        make: number of probes, index of the first -> their spectrum.
        probes: at most.
        targets: criterion -> standard error relative to its mean.
    """
    from lla.hessian.ratios import spectrum_criteria  # ratios know spectra, not spectra ratios

    spectrum = make(min(probes, FEWEST + 1))
    while True:
        found = spectrum_criteria(spectrum)
        errors = {name: spread([getattr(found, name)], "probes") for name in targets}
        missed = [
            n for n, e in errors.items() if not reached(e, targets[n], "probes", spectrum.dtype)
        ]
        if not missed:
            return spectrum
        if spectrum.probes >= probes:
            error = errors[missed[0]]
            warnings.warn(
                f"after {spectrum.probes} probes {missed[0]} is {error.value:.3g} with a standard "
                f"error of {error.stderr}, more than {targets[missed[0]]:.2g} of it: raise probes",
                stacklevel=5,
            )
            return spectrum
        more = min(max(1, spectrum.probes // 5), probes - spectrum.probes)
        spectrum = _joined(spectrum, make(more, first=spectrum.probes))


def _joined(one: Spectrum, other: Spectrum) -> Spectrum:
    """The spectrum of the probes of both."""
    return replace(
        one,
        eigenvalues=np.concatenate([one.eigenvalues, other.eigenvalues]),
        weights=np.concatenate([one.weights, other.weights]),
        counts=np.concatenate([one.counts, other.counts]),
        matvecs=one.matvecs + other.matvecs,
    )


def clamped(steps: int, size: int) -> int:
    """Steps that `size` parameters leave room for, with a warning where those are fewer."""
    if steps > size:
        warnings.warn(
            f"steps={steps} exceeds the {size} parameters: {size} steps are taken", stacklevel=3
        )
    return min(steps, size)


def quadrature(
    operator: HessianOperator,
    probes: int,
    steps: int,
    seed: int,
    *,
    legacy: bool,
    stream: int,
    together: int = 1,
    first: int = 0,
    basis_dtype: torch.dtype | None,
    basis_device: torch.device | str | None,
    progress: bool,
) -> Spectrum:
    """What `spectral_density` does, exactly as asked for: it says what the arguments mean.

    Beside them, `first` is the index of the first probe.

    Raises:
        InputError, NonFiniteError: see there.
        MemoryError, RuntimeError: out of memory.
    """
    if probes < 1 or steps < 1:
        raise InputError(f"probes is {probes} and steps {steps}: both must be at least 1")
    if legacy and not (basis_dtype is None and basis_device is None):
        raise InputError(
            "legacy keeps eleven Lanczos vectors and no basis: leave basis_dtype and basis_device "
            "out"
        )
    size, before, like = operator.shape[0], operator.matvecs, operator.theta
    parts = []
    with tqdm(total=probes * steps, desc="Lanczos", unit="product", disable=not progress) as bar:
        width, end = 1 if legacy else together, first + probes
        for begin in range(first, end, width):
            indices = range(begin, min(begin + width, end))
            start = torch.stack([rademacher(size, like, seed, stream, i) for i in indices])

            def step(amount: int = len(indices)) -> None:
                bar.update(amount)

            if legacy:
                parts.append(legacy_tridiagonal(operator, start[0], steps, seed, step))
            else:
                parts.append(_run(operator, start, steps, basis_dtype, basis_device, step))
    values, weights, counts = _quadrature(parts, steps)
    return Spectrum(
        eigenvalues=values,
        weights=weights,
        counts=counts,
        size=size,
        steps=steps,
        seed=seed,
        dtype=str(operator.dtype).removeprefix("torch."),
        legacy=legacy,
        matvecs=operator.matvecs - before,
    )


def _run(
    operator: HessianOperator,
    start: Tensor,
    steps: int,
    basis_dtype: torch.dtype | None,
    basis_device: torch.device | str | None,
    on_step: Callable[[], None],
) -> Tridiagonal:
    lanczos = Lanczos(operator, start, steps, basis_dtype, basis_device)
    for _ in range(steps):
        lanczos.advance(1)
        on_step()
    return lanczos.tridiagonal()


def _quadrature(parts: list[Tridiagonal], steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues, squared first components of the eigenvectors, and counts of all runs."""
    alphas = np.concatenate([part.alphas for part in parts])
    betas = np.concatenate([part.betas for part in parts])
    counts = np.concatenate([part.counts for part in parts])
    values, weights = np.zeros((2, len(counts), steps))
    for i, n in enumerate(counts):
        eigenvalues, vectors = eigh_tridiagonal(alphas[i, :n], betas[i, : n - 1])
        values[i, :n], weights[i, :n] = eigenvalues, vectors[0] ** 2
    return values, weights, counts
