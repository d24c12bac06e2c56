"""Extreme eigenvalues and eigenvectors by restarted Lanczos, stopped by their residuals."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lla.arguments import positive_number, seed_number, whole_number
from lla.errors import InputError
from lla.free_memory import available_memory
from lla.hessian.lanczos.process import Lanczos
from lla.hessian.lanczos.thick_restart import thick_restart
from lla.hessian.memory.plans import Memory, memory_settings
from lla.hessian.operator import check_operator
from lla.hessian.symmetric import SymmetricOperator
from lla.overlaps import overlap
from lla.plotting import entitled
from lla.probes import gaussian
from lla.progress_bars import tqdm
from lla.saved import Saved
from lla.spectrum_plots import plot_eigenvalues
from lla.storage import FLOATS, array_faults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Which = Literal["LA", "SA", "LM", "BE"]


@dataclass(frozen=True)
class Eigenpairs(Saved):
    """Eigenpairs of a Hessian, the most extreme first."""

    values: np.ndarray  # [k] float64, Rayleigh quotients
    vectors: np.ndarray  # [k, P], rows of norm 1, in the operator's type
    residuals: np.ndarray  # [k], ||H x - lambda x||, from products made after convergence
    converged: bool
    which: str
    steps: int  # Lanczos steps made
    matvecs: int  # Hessian-vector products that were made
    about: str = ""  # model, number of examples and mode in words; empty if not known

    LONG: ClassVar[tuple[str, ...]] = ("vectors",)

    def _faults(self) -> Iterator[str]:
        k = len(self.values) if self.values.ndim else 0
        size = self.vectors.shape[-1] if self.vectors.ndim else 0
        yield from array_faults(
            self,
            values=((k,), "float64"),
            vectors=((k, size), FLOATS),
            residuals=((k,), "float64"),
        )
        if not 1 <= k <= size:
            yield f"it has {k} values and vectors of {size} elements"
        if not (np.isfinite(self.values).all() and np.isfinite(self.residuals).all()):
            yield "values or residuals are not finite"
        if (self.residuals < 0).any():
            yield "residuals are negative"
        norms = np.linalg.norm(self.vectors.astype(np.float64), axis=1)
        if not (abs(norms - 1) <= _ROUNDING).all():
            yield "vectors are not of norm 1"
        if self.which not in get_args(Which):
            yield f"which is {self.which!r}"
        if (self.values[_order(self.values, self.which)] != self.values).any():
            yield "the most extreme value is not the first"
        if self.steps < 1 or self.matvecs < 0:
            yield f"steps is {self.steps} and matvecs is {self.matvecs}"

    def overlap(self, other: Eigenpairs) -> np.ndarray:
        """The overlap of the first k' eigenvectors of both, for k' = 1, 2, ...: `lla.overlaps`.

        Args:
            other: eigenpairs of another Hessian by the same parameters, such as that of another
                checkpoint; with another k the smaller one is taken.

        Returns:
            From 0 (orthogonal spaces) to 1 (equal ones); random spaces have k' / P on average.

        Raises:
            InputError: the other is no Eigenpairs, or its vectors have another length.
        """
        if not isinstance(other, Eigenpairs):
            raise InputError(
                f"overlap takes a result of lla.top_eigenpairs, not {type(other).__name__}: give "
                "one"
            )
        return overlap(self.vectors, other.vectors)

    def to_frame(self) -> pd.DataFrame:
        """One row an eigenvalue: its value and its residual; the index is the rank from 1."""
        rank = pd.RangeIndex(1, len(self.values) + 1, name="rank")
        return pd.DataFrame({"value": self.values, "residual": self.residuals}, index=rank)

    def plot(self, ax: Axes | None = None, *, title: str | None = None) -> Figure:
        """Draw the values with their residuals as error bars.

        Args:
            ax: axes to draw into; a new figure by default.
            title: above the picture; a new figure has `about` by default.
        """
        figure = plot_eigenvalues(self.values, self.residuals, self.which, ax=ax)
        return entitled(ax, figure, title, self.about)

    def __repr__(self) -> str:
        shown = ", ".join(f"{value:.4g}" for value in self.values[:_SHOWN])
        more = f", ... {len(self.values) - _SHOWN} more" if len(self.values) > _SHOWN else ""
        return (
            f"Eigenpairs of {self.about or 'a matrix'}: {len(self.values)} ({self.which})\n"
            f"{shown}{more}\n"
            f"residuals up to {self.residuals.max():.2g}, "
            f"{'' if self.converged else 'not '}converged, {self.matvecs} products"
        )


def top_eigenpairs(
    operator: SymmetricOperator,
    k: int = 1,
    which: Which = "LA",
    seed: int = 0,
    *,
    tol: float = 1e-4,
    max_steps: int = 300,
    basis_size: int | None = None,
    memory: Memory | int | None = None,
    progress: bool = False,
) -> Eigenpairs:
    """The k most extreme eigenpairs of a Hessian.

    Lanczos with full reorthogonalisation goes on until the residual of every wanted Ritz pair,
    |beta_m s_mi|, is below tol times the largest |Ritz value|. The error of an eigenvalue is then
    at most its residual, and of the order of the residual's square if the next one is far away.
    The space grows with the steps, by one vector [P] each. If a Krylov space is exhausted first, it
    is continued with a random vector orthogonal to it, until that changes nothing. This finds
    further copies of a repeated eigenvalue, of which one Krylov space has only one. Copies of an
    outlying eigenvalue that converges before its space is exhausted may be missed.

    Ctrl-C ends the call, and nothing of it is kept; `max_steps` limits how long it takes.

    Args:
        operator: the Hessian, or any other `lla.hessian.symmetric.SymmetricOperator`.
        k: how many.
        which: "LA" largest, "SA" smallest, "LM" largest in magnitude (what power iteration finds),
            "BE" half of them from each end in turn, the largest first (the names of ARPACK).
        seed: of the start vector.
        tol: bound on the residuals, relative to the largest |Ritz value|.
        max_steps: steps after which the best pairs so far are returned, with a warning.
        basis_size: largest number of Lanczos vectors held at once. When there are as many, the
            better half of their Ritz vectors stays and the others make room (thick restart). None
            holds max_steps vectors, or 40 if those would take more than a quarter of the memory.
        memory: bytes to take on the operator's device (what is available by default), or a
            `lla.Memory`, which also says how the Lanczos vectors are stored.
        progress: show a progress bar.

    Raises:
        InputError: k below 1 or above P, an unknown `which`, tol not positive, a basis of less
            than k + 2 vectors, or one that restarts and has another type or device.
        NonFiniteError: a product is not finite.
    """
    check_operator("top_eigenpairs", operator)
    k, max_steps = whole_number("k", k), whole_number("max_steps", max_steps, 1)
    basis_size = None if basis_size is None else whole_number("basis_size", basis_size)
    tol, seed = positive_number("tol", tol), seed_number(seed)
    size = operator.shape[0]
    if not 1 <= k <= size:
        raise InputError(f"k is {k}: choose 1 to {size}, the number of parameters")
    if which not in get_args(Which):
        raise InputError(f"which is {which!r}: choose 'LA', 'SA', 'LM' or 'BE'")
    operator.agree_on(k=k, which=which, seed=seed, tol=tol, steps=max_steps, basis=basis_size)
    before = operator.matvecs
    room = max(min(size, max_steps), k)
    limits = memory_settings(memory)
    as_computed = limits.basis_dtype is None and limits.basis_device is None
    if basis_size is None and as_computed:
        needed = room * size * operator.dtype.itemsize // operator.ranks.count
        free = available_memory(operator.device) if limits.bytes is None else limits.bytes
        if needed > min(operator.ranks.gathered(free)) // 4:
            basis_size = max(_BOUNDED, 3 * k)
    restarts = basis_size is not None and basis_size < room
    if basis_size is not None and restarts and (basis_size < k + 2 or not as_computed):
        raise InputError(
            f"basis_size is {basis_size} for k={k}: give at least k + 2, without basis_dtype "
            "and basis_device"
        )

    def fresh(*step: int) -> Tensor:
        return gaussian(size, operator.like, seed, *step)

    with tqdm(total=room, desc="Lanczos", unit="product", disable=not progress) as bar:
        if basis_size is not None and restarts:
            found = thick_restart(
                operator, fresh(), k, partial(_order, which=which), basis_size, tol, room, fresh,
                bar.update,
            )  # fmt: skip
        else:
            start = fresh()[None]
            lanczos = Lanczos(
                operator, start, room, limits.basis_dtype, limits.basis_device, operator.ranks
            )
            found = _growing(operator, lanczos, k, which, tol, room, fresh, bar.update)
    vectors, scale, steps, converged = found
    values, vectors, residuals = _refine(operator, vectors)
    order = _order(values, which)
    # a basis in half precision gives vectors of its precision only
    converged = converged and bool(residuals.max() <= 2 * tol * scale)
    if not converged:
        warnings.warn(
            f"after {steps} steps the residuals are {residuals.max():.2g}, above "
            f"tol={tol:.2g} times {scale:.2g}: raise max_steps or tol",
            stacklevel=2,
        )
    return Eigenpairs(
        values=values[order],
        vectors=vectors[torch.from_numpy(order.copy())].cpu().numpy(),
        residuals=residuals[order],
        converged=converged,
        which=which,
        steps=steps,
        matvecs=operator.matvecs - before,
        about=operator.about,
    )


def _growing(
    operator: SymmetricOperator,
    lanczos: Lanczos,
    k: int,
    which: Which,
    tol: float,
    room: int,
    fresh: Callable[[int], Tensor],
    advanced: Callable[[int], object],
) -> tuple[Tensor, float, int, bool]:
    """The result of `thick_restart`, from a basis that grows to at most `room` vectors."""
    size = operator.shape[0]
    converged, weights, scale = False, np.zeros((k, 1)), 0.0
    exact: np.ndarray | None = None
    while not converged and lanczos.done < room:
        # T is diagonalised only when the steps grew by a tenth, so that this costs little
        amount = min(max(k, 5, lanczos.done // 10), room - lanczos.done)
        lanczos.advance(amount)
        advanced(amount)
        tridiagonal = lanczos.tridiagonal()
        count = int(tridiagonal.counts[0])
        exhausted = bool(tridiagonal.exhausted[0])
        if exhausted and count < size:
            lanczos.restart(count, fresh(count)[None])
        values, residuals, weights, scale = _ritz(lanczos, k, which)
        if lanczos.done == size:
            converged = True
        elif exhausted:
            # the last start vector gave one more copy of each repeated eigenvalue
            full = len(values) == k
            same = full and exact is not None and np.abs(values - exact) <= tol * scale
            converged, exact = bool(np.all(same)), values if full else None
        elif exact is None:
            converged = bool((residuals <= tol * scale).all())
        converged = operator.decided(converged)
    return lanczos.ritz_vectors(weights), scale, lanczos.done, converged


_ROUNDING = 1e-3  # of a norm in float32, with room
_SHOWN = 8  # values in a text
_BOUNDED = 40  # number of vectors in a bounded basis


def _order(values: np.ndarray, which: str) -> np.ndarray:
    """Indices from the most extreme value on."""
    if which == "BE":  # the largest, the smallest, the next of each
        down = np.argsort(-values, kind="stable")
        order, half = np.empty_like(down), (len(values) + 1) // 2
        order[::2], order[1::2] = down[:half], down[half:][::-1]
        return order
    keys = {"LA": -values, "SA": values, "LM": -np.abs(values)}
    return np.argsort(keys[which], kind="stable")


def _ritz(
    lanczos: Lanczos, k: int, which: Which
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Values [k], residuals [k], coordinates [k, done], and the largest |value| of all."""
    tridiagonal = lanczos.tridiagonal()
    n = lanczos.done
    alphas, betas = tridiagonal.alphas[0], tridiagonal.betas[0]
    dense = np.diag(alphas) + np.diag(betas[: n - 1], 1) + np.diag(betas[: n - 1], -1)
    values, vectors = np.linalg.eigh(dense)
    chosen = _order(values, which)[:k]
    if len(chosen) < k:
        return values[chosen], np.full(k, np.inf), np.zeros((k, n)), 0.0
    residuals = np.abs(betas[n - 1] * vectors[-1, chosen])
    return values[chosen], residuals, vectors[:, chosen].T, float(np.abs(values).max())


def _refine(operator: SymmetricOperator, vectors: Tensor) -> tuple[np.ndarray, Tensor, np.ndarray]:
    """Rayleigh quotients, normalised vectors and true residuals, by one more product each."""
    vectors = vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    products = operator.rows(vectors)
    values = (vectors.double() * products.double()).sum(1)
    residuals = torch.linalg.vector_norm(products - values[:, None].to(vectors) * vectors, dim=1)
    return values.cpu().numpy(), vectors, residuals.double().cpu().numpy()
