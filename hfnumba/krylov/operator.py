"""Operators: matrices given only through matrix-vector products, and their sums, multiples and shifts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from hfnumba.krylov.estimates import Estimate, estimated_diagonal, estimated_trace

Vector = NDArray[np.floating[Any]]

_BLOCK = 1 << 15
"""Number of elements that a shifted product adds at once: a block of a vector that stays in cache."""

_NUMBER = (int, float, np.integer, np.floating)


class LinearOperator(Protocol):
    """What a solver requires of a matrix. The names are SciPy's, so SciPy's operators satisfy it too."""

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the matrix, ``(n, n)``."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the products."""
        ...

    def matvec(self, v: Vector) -> Vector:
        """Return the product with a vector of shape ``(n,)`` as a new array; ``v`` is not changed."""
        ...


class Operator(ABC):
    """Base class of symmetric operators: subclasses define ``shape``, ``dtype`` and ``matvec``.

    It adds products ``H @ v`` and ``H @ V`` (of the columns of a matrix), shifts ``H + c`` and ``H - c`` (c·I is added
    or subtracted), multiples ``c * H``, sums ``A + B`` and ``A - B`` with any :class:`LinearOperator`, :meth:`trace`,
    :meth:`diagonal` and :meth:`to_scipy`.
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
        """Return the product with a vector of shape ``(n,)`` as a new array; ``v`` is not changed."""

    def __matmul__(self, other: ArrayLike) -> NDArray[Any]:
        """Return the product with a vector, or with each column of a matrix of shape ``(n, k)`` (k products)."""
        if hasattr(other, "matvec"):
            return NotImplemented
        array, n = np.asarray(other), self.shape[1]
        if array.ndim not in (1, 2) or array.shape[0] != n:
            raise ValueError(f"expected a vector of shape ({n},) or a matrix of shape ({n}, k), got {array.shape}")
        return self.matvec(array) if array.ndim == 1 else self.matmat(array)

    def matmat(self, V: NDArray[Any]) -> NDArray[Any]:
        """Return the products with the columns of ``V`` (n, k) as a new array; by default k products one by one."""
        return _columns(self, V)

    def trace(self, *, exact: bool = False, probes: int = 30, seed: int = 0) -> Estimate:
        """Return the trace with its standard error, by Hutch++ with ``probes`` products.

        If ``exact``, or where n is not larger than that, it is made of the products with the n unit vectors, and the
        standard error is 0. See :func:`hfnumba.krylov.estimates.estimated_trace`.
        """
        return estimated_trace(self.matmat, self.shape[0], self.dtype, exact=exact, probes=probes, seed=seed)

    def diagonal(self, *, exact: bool = False, probes: int = 30, seed: int = 0) -> Estimate:
        """Return the diagonal (n,) with the standard error of each entry; parameters are those of :meth:`trace`."""
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
        """Convert to a :class:`scipy.sparse.linalg.LinearOperator` (symmetric: rmatvec = matvec)."""
        from scipy.sparse.linalg import LinearOperator as ScipyOperator  # noqa: PLC0415 - slow to import

        def matvec(v: Vector) -> Vector:
            # SciPy gives columns of shape (n, 1) too.
            return self.matvec(np.ravel(v))

        return ScipyOperator(
            self.shape, matvec=matvec, rmatvec=matvec, matmat=self.matmat, rmatmat=self.matmat, dtype=self.dtype
        )


class FunctionOperator(Operator):
    """A symmetric operator made from a function.

    Parameters
    ----------
    n : int
        Order of the matrix.
    function : callable
        ``function(v)`` returns the product, a new array of shape ``(n,)``.
    dtype : dtype
        The dtype of the products.
    """

    def __init__(self, n: int, function: Callable[[Vector], Vector], dtype: DTypeLike) -> None:
        self._n, self._function, self._dtype = n, function, np.dtype(dtype)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the matrix, ``(n, n)``."""
        return (self._n, self._n)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the products."""
        return self._dtype

    def matvec(self, v: Vector) -> Vector:
        """Return ``function(v)``."""
        return self._function(v)


def as_operator(matrix: Any, dtype: DTypeLike | None = None) -> LinearOperator:
    """Return an operator for a dense square array; an object with ``matvec`` is returned unchanged.

    Parameters
    ----------
    matrix : LinearOperator or array_like, shape (n, n)
        The matrix. Integers become float64, so that a shift is not truncated to an integer.
    dtype : dtype, optional
        The dtype that a dense array is converted to. Ignored for operators.

    Raises
    ------
    ValueError
        If the matrix is not square.
    """
    if hasattr(matrix, "matvec"):
        operator: LinearOperator = matrix
        return operator
    array = np.asarray(matrix, dtype=dtype)
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise ValueError(f"expected a square matrix, got shape {array.shape}; pass an (n, n) array or an operator")
    if array.dtype.kind in "biu":
        array = array.astype(np.float64)
    return FunctionOperator(array.shape[0], lambda v: array @ v, array.dtype)


def shifted(operator: LinearOperator, shift: float) -> Operator:
    """Return the damped operator, A + shift·I. A product costs one of A and one pass over the vector."""
    return _Shifted(operator, shift)


def new_product(operator: LinearOperator, v: Vector) -> Vector:
    """Return ``operator.matvec(v)`` as an array that may be changed: not ``v`` itself, nor read-only.

    SciPy's identity, for one, returns its argument.
    """
    product = np.asarray(operator.matvec(v))
    return product if product.flags.writeable and not np.may_share_memory(product, v) else product.copy()


def _columns(operator: LinearOperator, V: NDArray[Any]) -> NDArray[Any]:
    """Return the products with the columns of ``V`` one by one."""
    product = np.empty(V.shape, np.result_type(operator.dtype, V.dtype))
    for j in range(V.shape[1]):
        product[:, j] = operator.matvec(np.ascontiguousarray(V[:, j]))
    return product


def new_products(operator: LinearOperator, V: NDArray[Any]) -> NDArray[Any]:
    """Return the products with the columns of ``V`` (n, k), by ``matmat`` if there is one, as an array of their own."""
    product = np.asarray(operator.matmat(V)) if hasattr(operator, "matmat") else _columns(operator, V)
    return product if product.flags.writeable and not np.may_share_memory(product, V) else product.copy()


@dataclass(frozen=True, eq=False)
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


@dataclass(frozen=True, eq=False)
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


@dataclass(frozen=True, eq=False)
class _Multiple(_Derived):
    """The operator factor·A."""

    factor: float

    def matvec(self, v: Vector) -> Vector:
        product = new_product(self.operator, v)
        return np.multiply(product, self.factor, out=product if product.dtype.kind == "f" else None)

    def matmat(self, V: NDArray[Any]) -> NDArray[Any]:
        products: NDArray[Any] = new_products(self.operator, V) * self.factor
        return products


@dataclass(frozen=True, eq=False)
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
