"""Operators with an inverse: diagonal, Kronecker product, block diagonal.

Source for Kronecker factors as curvature of a network's layers: Martens and Grosse, "Optimizing neural networks with
Kronecker-factored approximate curvature" (ICML 2015), sections 3 and 6.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfnumba.krylov.linear_operator import LinearOperator, Vector
from hfnumba.krylov.operator import Operator

_ASYMMETRY = 1e-3
"""Largest difference between a factor and its transpose, relative to its largest entry, that counts as rounding."""


@runtime_checkable
class InvertibleOperator(LinearOperator, Protocol):
    """An operator whose inverse is an operator too."""

    def inverse(self) -> LinearOperator:
        """Return the inverse; ValueError if there is none."""
        ...


class DiagonalOperator(Operator):
    """A diagonal matrix.

    Parameters
    ----------
    diagonal : array_like, shape (n,)
        Entries of the diagonal. Integers become float64.

    Raises
    ------
    ValueError
        If the diagonal is not a vector of finite real numbers.

    Notes
    -----
    A product is one pass over the vector. The diagonal is not copied.

    Examples
    --------
    >>> from hfnumba.krylov import DiagonalOperator
    >>> DiagonalOperator([2, 4]).inverse().entries
    array([0.5 , 0.25])
    """

    def __init__(self, diagonal: ArrayLike) -> None:
        self.entries = _real("diagonal", diagonal)
        if self.entries.ndim != 1:
            raise ValueError(f"expected a diagonal of shape (n,), got {self.entries.shape}; pass a vector")

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the matrix, ``(n, n)``."""
        return (self.entries.size, self.entries.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the diagonal."""
        return self.entries.dtype

    def matvec(self, v: Vector) -> Vector:
        """Return the entrywise product of the diagonal and ``v``."""
        product: Vector = self.entries * v
        return product

    def solve_lower(self, v: Vector) -> Vector:
        """Return L⁻¹ v, where LL' is the inverse of this matrix, which must be positive."""
        product: Vector = np.sqrt(self.entries) * v
        return product

    solve_upper = solve_lower

    def multiply_upper(self, v: Vector) -> Vector:
        """Return L'v, where LL' is the inverse of this matrix, which must be positive."""
        quotient: Vector = v / np.sqrt(self.entries)
        return quotient

    def inverse(self) -> DiagonalOperator:
        """Return the inverse.

        Returns
        -------
        DiagonalOperator
            Operator of the reciprocals of the entries.

        Raises
        ------
        ValueError
            If an entry is zero or so small that its reciprocal is not finite.
        """
        with np.errstate(divide="ignore", over="ignore"):
            reciprocals = 1 / self.entries
        bad = np.flatnonzero(~np.isfinite(reciprocals))
        if bad.size:
            raise ValueError(
                f"expected a diagonal without zeros, got {bad.size} of them, the first, {self.entries[bad[0]]}, "
                f"at {bad[0]}; add a damping"
            )
        return DiagonalOperator(reciprocals)


class KroneckerOperator(Operator):
    """The Kronecker product A ⊗ G of two symmetric matrices, applied to row-major (m, k) matrices V as A V G.

    For a layer of a network whose parameters are the weights, (n_in, n_out) row-major, followed by the biases
    (n_out,), A of order n_in + 1 belongs to the layer's inputs with a 1 appended, and G of order n_out to its outputs.

    Parameters
    ----------
    A : array_like, shape (m, m)
        Left factor, symmetric.
    G : array_like, shape (k, k)
        Right factor, symmetric.

    Raises
    ------
    ValueError
        If a factor is not a symmetric matrix of finite real numbers.

    Notes
    -----
    A product costs two GEMMs, 2 m k (m + k) operations, instead of 2 (m k)² for the dense matrix, and an (m, k) matrix
    for a temporary. The factors are not copied.

    Examples
    --------
    >>> import numpy as np
    >>> from hfnumba.krylov import KroneckerOperator
    >>> A, G, v = np.diag([1.0, 2.0]), np.array([[2.0, 1.0], [1.0, 3.0]]), np.arange(4.0)
    >>> bool(np.allclose(KroneckerOperator(A, G) @ v, np.kron(A, G) @ v))
    True
    """

    def __init__(self, A: ArrayLike, G: ArrayLike) -> None:
        self.A, self.G = _symmetric("A", A), _symmetric("G", G)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the matrix, ``(m k, m k)``."""
        n = self.A.shape[0] * self.G.shape[0]
        return (n, n)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the products."""
        return np.result_type(self.A, self.G)

    def matvec(self, v: Vector) -> Vector:
        """Return A V G, raveled, for the row-major matrix V of ``v``."""
        V = v.reshape(self.A.shape[0], self.G.shape[0])
        product: Vector = (self.A @ V @ self.G).ravel()
        return product

    def inverse(self) -> KroneckerOperator:
        """Return the inverse, A^-1 ⊗ G^-1, by Cholesky factorisations in float64.

        Returns
        -------
        KroneckerOperator
            Its factors; they cost m³ + k³ operations.

        Raises
        ------
        ValueError
            If a factor is not positive definite.
        """
        return KroneckerOperator(_inverse("A", self.A), _inverse("G", self.G))


class BlockDiagonalOperator(Operator):
    """A block-diagonal matrix of operators.

    Parameters
    ----------
    blocks : sequence of LinearOperator
        The blocks in order, at least one. :meth:`inverse` needs an ``inverse`` of each.

    Raises
    ------
    ValueError
        If there is no block, or one is not square.

    Notes
    -----
    A product costs one of each block and one copy of the vector.

    Examples
    --------
    >>> import numpy as np
    >>> from hfnumba.krylov import BlockDiagonalOperator, DiagonalOperator
    >>> BlockDiagonalOperator([DiagonalOperator([1.0, 2.0]), DiagonalOperator([4.0])]).inverse() @ np.ones(3)
    array([1.  , 0.5 , 0.25])
    """

    def __init__(self, blocks: Sequence[LinearOperator]) -> None:
        self.blocks = tuple(blocks)
        if not self.blocks:
            raise ValueError("expected at least one block, got none")
        for i, block in enumerate(self.blocks):
            if block.shape[0] != block.shape[1]:
                raise ValueError(f"expected square blocks, got shape {block.shape} for block {i}")

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the matrix, ``(n, n)`` with n the sum of the blocks' orders."""
        n = sum(block.shape[0] for block in self.blocks)
        return (n, n)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the products."""
        return np.result_type(*(block.dtype for block in self.blocks))

    def matvec(self, v: Vector) -> Vector:
        """Return the products of the blocks with their parts of ``v``, one after the other."""
        product = np.empty(v.shape, np.result_type(self.dtype, v))
        start = 0
        for block in self.blocks:
            stop = start + block.shape[0]
            product[start:stop] = block.matvec(v[start:stop])
            start = stop
        return product

    def inverse(self) -> BlockDiagonalOperator:
        """Return the inverse, block by block.

        Returns
        -------
        BlockDiagonalOperator
            Operator of the inverses of the blocks.

        Raises
        ------
        ValueError
            If a block has no inverse; the message says which one.
        """
        return BlockDiagonalOperator([_block_inverse(i, block) for i, block in enumerate(self.blocks)])


def _block_inverse(index: int, block: LinearOperator) -> LinearOperator:
    if not isinstance(block, InvertibleOperator):
        raise ValueError(f"expected blocks with an inverse, got a {type(block).__name__} as block {index}")
    try:
        return block.inverse()
    except ValueError as error:
        raise ValueError(f"block {index}: {error}") from error


def _real(name: str, values: ArrayLike) -> NDArray[Any]:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"expected real numbers in {name}, got dtype {array.dtype}")
    if not np.isfinite(array).all():
        raise ValueError(f"expected finite numbers in {name}, got NaN or infinity; check what it was computed from")
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _symmetric(name: str, values: ArrayLike) -> NDArray[Any]:
    array = _real(name, values)
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise ValueError(f"expected a square matrix {name}, got shape {array.shape}")
    largest = float(np.abs(array).max(initial=0.0))
    if float(np.abs(array - array.T).max(initial=0.0)) > _ASYMMETRY * largest:
        raise ValueError(
            f"expected a symmetric matrix {name}, got one that differs from its transpose; pass (X + X')/2"
        )
    return array


def _inverse(name: str, matrix: NDArray[Any]) -> NDArray[Any]:
    """Return the inverse of a symmetric positive definite matrix, exactly symmetric and in its dtype."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve  # noqa: PLC0415 - slow to import

    wide = matrix.astype(np.float64)
    try:
        inverse = cho_solve(cho_factor(wide, lower=True), np.eye(len(wide)))
        with np.errstate(over="raise"):
            result: NDArray[Any] = ((inverse + inverse.T) / 2).astype(matrix.dtype)
    except (LinAlgError, FloatingPointError) as error:
        lowest = float(np.linalg.eigvalsh(wide)[0])
        raise ValueError(
            f"expected a positive definite factor {name}, got one with an eigenvalue of {lowest:.1e}; "
            "add a damping to its diagonal"
        ) from error
    return result
