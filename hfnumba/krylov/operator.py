"""Base class of operators: matrices given only through products, and their sums, multiples and shifts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hfnumba.krylov.estimates import Estimate, estimated_diagonal, estimated_trace
from hfnumba.krylov.linear_operator import LinearOperator, Vector, columns, new_product, new_products

_BLOCK = 1 << 15
"""Number of elements that a shifted product adds at once: a block of a vector that stays in cache."""

_NUMBER = (int, float, np.integer, np.floating)


class Operator(ABC):
    """Base class of symmetric operators: subclasses define ``shape``, ``dtype`` and ``matvec``.

    It adds products ``H @ v`` and ``H @ V`` (of the columns of a matrix), shifts ``H + c`` and ``H - c`` (c·I is added
    or subtracted), multiples ``c * H``, sums ``A + B`` and ``A - B`` with any :class:`LinearOperator`, :meth:`trace`,
    :meth:`diagonal` and :meth:`to_scipy`.

    Examples
    --------
    >>> import numpy as np
    >>> from hfnumba.krylov import DiagonalOperator
    >>> H = DiagonalOperator([3.0, 1.0])
    >>> (2 * H + 0.5) @ np.ones(2)
    array([6.5, 2.5])
    >>> H.trace(exact=True).value
    4.0
    """

    __array_ufunc__ = None  # NumPy's numbers and arrays leave ``c * H`` and ``c + H`` to this class

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Shape of the matrix, ``(n, n)``."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the products."""

    @abstractmethod
    def matvec(self, v: Vector) -> Vector:
        """Return the product with a vector.

        Parameters
        ----------
        v : ndarray, shape (n,)
            The vector, which is not changed.

        Returns
        -------
        ndarray, shape (n,)
            The product, a new array.
        """

    def __repr__(self) -> str:
        """Name, shape and dtype: entries are known by products only."""
        return f"<{type(self).__name__.lstrip('_')}: {self.shape[0]} × {self.shape[1]}, {self.dtype}>"

    def __matmul__(self, other: ArrayLike) -> NDArray[Any]:
        """Return the product with a vector, or with each column of a matrix of shape ``(n, k)`` (k products)."""
        if hasattr(other, "matvec"):
            return NotImplemented
        array, n = np.asarray(other), self.shape[1]
        if array.ndim not in (1, 2) or array.shape[0] != n:
            raise ValueError(f"expected a vector of shape ({n},) or a matrix of shape ({n}, k), got {array.shape}")
        return self.matvec(array) if array.ndim == 1 else self.matmat(array)

    def matmat(self, V: NDArray[Any]) -> NDArray[Any]:
        """Return the products with the columns of a matrix; by default k products one by one.

        Parameters
        ----------
        V : ndarray, shape (n, k)
            The matrix, which is not changed.

        Returns
        -------
        ndarray, shape (n, k)
            The products, a new array.
        """
        return columns(self, V)

    def trace(self, *, exact: bool = False, probes: int = 30, seed: int = 0) -> Estimate:
        """Return the trace with its standard error, by Hutch++; see :func:`hfnumba.krylov.estimates.estimated_trace`.

        Parameters
        ----------
        exact : bool
            Whether to take the products with all n unit vectors; so do ``probes`` >= n.
        probes : int
            Number of products, at least 6.
        seed : int
            Seed for the random vectors.

        Returns
        -------
        Estimate
            A float and its standard error, 0 if exact.

        Raises
        ------
        ValueError
            If there are fewer than 6 probes.
        """
        return estimated_trace(self.matmat, self.shape[0], self.dtype, exact=exact, probes=probes, seed=seed)

    def diagonal(self, *, exact: bool = False, probes: int = 30, seed: int = 0) -> Estimate:
        """Return the diagonal with the standard error of each entry, as the mean of z∘Hz over random signs z.

        Parameters
        ----------
        exact : bool
            Whether to take the products with all n unit vectors; so do ``probes`` >= n.
        probes : int
            Number of products, at least 6. A matrix far from diagonal needs many.
        seed : int
            Seed for the random vectors.

        Returns
        -------
        Estimate
            Arrays of shape (n,); the standard errors are 0 if exact.

        Raises
        ------
        ValueError
            If there are fewer than 6 probes.
        """
        return estimated_diagonal(self.matmat, self.shape[0], self.dtype, exact=exact, probes=probes, seed=seed)

    def __add__(self, other: float | LinearOperator) -> Operator:
        """Return the shifted operator H + c·I for a number c, or the sum of two operators."""
        if isinstance(other, _NUMBER):
            return shifted(self, float(other))
        if not hasattr(other, "matvec"):
            return NotImplemented
        return _Sum(self, other)

    __radd__ = __add__

    def __sub__(self, other: float | LinearOperator) -> Operator:
        """Return H - c·I for a number c, or the difference of two operators."""
        if isinstance(other, _NUMBER):
            return shifted(self, -float(other))
        if not hasattr(other, "matvec"):
            return NotImplemented
        return _Sum(self, _Multiple(other, -1.0))

    def __mul__(self, factor: float) -> Operator:
        """Return the multiple c·H for a number c."""
        if not isinstance(factor, _NUMBER):
            return NotImplemented
        return _Multiple(self, float(factor))

    __rmul__ = __mul__

    def to_scipy(self) -> Any:
        """Convert to SciPy's operator, for :func:`scipy.sparse.linalg.eigsh` and others; rmatvec is matvec.

        Returns
        -------
        scipy.sparse.linalg.LinearOperator
            Operator with the products of this one, at the same cost.
        """
        from scipy.sparse.linalg import LinearOperator as ScipyOperator  # noqa: PLC0415 - slow to import

        def matvec(v: Vector) -> Vector:
            # SciPy gives columns of shape (n, 1) too.
            return self.matvec(np.ravel(v))

        return ScipyOperator(
            self.shape, matvec=matvec, rmatvec=matvec, matmat=self.matmat, rmatmat=self.matmat, dtype=self.dtype
        )


def shifted(operator: LinearOperator, shift: float) -> Operator:
    """Return the damped operator, A + shift·I.

    Parameters
    ----------
    operator : LinearOperator
        The matrix A.
    shift : float
        Multiple of the identity that is added.

    Returns
    -------
    Operator
        A product costs one of A and one pass over the vector.
    """
    return _Shifted(operator, shift)


@dataclass(frozen=True, eq=False, repr=False)
class _Derived(Operator):
    """An operator with the products of one other, changed."""

    operator: LinearOperator

    @property
    def shape(self) -> tuple[int, int]:
        return self.operator.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype = self.operator.dtype
        return dtype if dtype.kind == "f" else np.dtype(np.float64)


@dataclass(frozen=True, eq=False, repr=False)
class _Shifted(_Derived):
    """The operator A + shift·I."""

    shift: float

    def matvec(self, v: Vector) -> Vector:
        scale = self.dtype.type(self.shift)
        product = new_product(self.operator, v)
        dtype = np.result_type(scale, v)
        if np.result_type(product, dtype) != product.dtype:
            total: Vector = product + scale * v
            return total
        scratch = np.empty(min(v.size, _BLOCK), dtype)
        for start in range(0, v.size, _BLOCK):
            part = product[start : start + _BLOCK]
            added = np.multiply(v[start : start + _BLOCK], scale, out=scratch[: part.size])
            np.add(part, added, out=part)
        return product

    def matmat(self, V: NDArray[Any]) -> NDArray[Any]:
        total: NDArray[Any] = new_products(self.operator, V) + self.dtype.type(self.shift) * V
        return total


@dataclass(frozen=True, eq=False, repr=False)
class _Multiple(_Derived):
    """The operator factor·A."""

    factor: float

    def matvec(self, v: Vector) -> Vector:
        product = new_product(self.operator, v)
        return np.multiply(product, self.factor, out=product if product.dtype.kind == "f" else None)

    def matmat(self, V: NDArray[Any]) -> NDArray[Any]:
        products: NDArray[Any] = new_products(self.operator, V) * self.factor
        return products


@dataclass(frozen=True, eq=False, repr=False)
class _Sum(Operator):
    """The operator A + B."""

    first: LinearOperator
    second: LinearOperator

    def __post_init__(self) -> None:
        if tuple(self.first.shape) != tuple(self.second.shape):
            raise ValueError(f"expected operators of one shape, got {self.first.shape} and {self.second.shape}")

    @property
    def shape(self) -> tuple[int, int]:
        return self.first.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.result_type(self.first.dtype, self.second.dtype)

    def matvec(self, v: Vector) -> Vector:
        product, other = new_product(self.first, v), self.second.matvec(v)
        fits = np.result_type(product, other) == product.dtype
        return np.add(product, other, out=product if fits else None)

    def matmat(self, V: NDArray[Any]) -> NDArray[Any]:
        total: NDArray[Any] = new_products(self.first, V) + new_products(self.second, V)
        return total
