"""A symmetric operator on flat vectors: what spectra, traces and eigenpairs ask of one."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from lla.errors import InputError
from lla.precision import full_precision, refuse_autocast
from lla.ranks import ALONE, Ranks


class SymmetricOperator:
    """A symmetric matrix [P, P] through its products; a subclass defines `multiplied`.

    `lla.trace`, `lla.spectral_density` and `lla.top_eigenpairs` take any of these. That the matrix
    is symmetric is not checked.

    Args:
        size: P.
        dtype: of the products.
        device: of the products.

    Attributes:
        matvecs: products made so far.
        ranks: processes that multiply together, see `lla.ranks`.

    >>> class Matrix(SymmetricOperator):
    ...     def __init__(self, matrix):
    ...         super().__init__(len(matrix), matrix.dtype, matrix.device)
    ...         self.matrix = matrix
    ...
    ...     def multiplied(self, rows):
    ...         return rows @ self.matrix
    >>> A = Matrix(torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
    >>> A @ torch.ones(2)
    tensor([3., 3.])
    >>> from lla import top_eigenpairs
    >>> top_eigenpairs(A, k=2).values.round(3).tolist()
    [3.0, 1.0]
    """

    kind = "operator"  # what messages call it
    about = ""  # what it is of, in words, as titles of pictures have it

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self._like = torch.empty(0, dtype=dtype, device=device)
        self.ranks: Ranks = ALONE
        self._size = size
        self.matvecs = 0

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P)."""
        return (self._size, self._size)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the products."""
        return self._like.dtype

    @property
    def device(self) -> torch.device:
        """Device of the products."""
        return self._like.device

    @property
    def like(self) -> Tensor:
        """An empty tensor of the type and device that vectors must have."""
        return self._like

    def multiplied(self, rows: Tensor) -> Tensor:
        """The operator applied to each row of a matrix [K, P] of the right type, K at least 1."""
        raise NotImplementedError

    def decided(self, answer: bool) -> bool:
        """A decision, such as to stop: that of rank 0, where processes multiply together."""
        return self.ranks.of(0, answer)

    def agree_on(self, **settings: object) -> None:
        """Check that all processes that multiply together were asked for the same."""
        self.ranks.same({name: str(value) for name, value in settings.items()})

    def __matmul__(self, vectors: Tensor) -> Tensor:
        """H @ v for v [P], or H @ V for V [P, K]."""
        if not isinstance(vectors, Tensor):
            convert = "torch.from_numpy" if isinstance(vectors, np.ndarray) else "torch.as_tensor"
            raise InputError(
                f"H @ v takes a tensor, not {type(vectors).__name__}: convert it with {convert}(v)"
            )
        if vectors.ndim not in (1, 2):
            raise InputError(f"H @ v takes [P] or [P, K], not {tuple(vectors.shape)}")
        if not vectors.is_meta and not bool(torch.isfinite(vectors).all()):
            raise InputError("the vector holds NaN or infinite elements: check where it comes from")
        if vectors.ndim == 1:
            return self.rows(vectors[None])[0]
        return self.rows(vectors.T.contiguous()).T

    def rows(self, rows: Tensor) -> Tensor:
        """The operator applied to each row of a matrix [K, P], in which vectors are contiguous.

        Raises:
            InputError: another length, type or device than the operator's.
        """
        size = self.shape[0]
        if rows.shape[-1] != size:
            raise InputError(f"the vector has {rows.shape[-1]} elements, the {self.kind} {size}")
        if rows.dtype != self.dtype or rows.device != self.device:
            raise InputError(
                f"the vector is {rows.dtype} on {rows.device}, the {self.kind} {self.dtype} on "
                f"{self.device}: convert it with .to(H.device, H.dtype)"
            )
        refuse_autocast(self.device)
        rows = rows.detach()
        self.matvecs += len(rows)
        if len(rows) == 0:
            return rows.clone()
        with full_precision(self.device):
            return self.multiplied(rows)

    def to_scipy(self) -> LinearOperator:
        """The operator for SciPy's solvers, with NumPy arrays."""

        def matvec(v: object) -> object:
            return (self @ torch.from_numpy(np.array(v)).reshape(-1).to(self.like)).cpu().numpy()

        return LinearOperator(self.shape, matvec=matvec, dtype=self.like.cpu().numpy().dtype)
