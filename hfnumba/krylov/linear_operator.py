"""What a solver requires of a matrix, and products that may be changed in place."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.floating[Any]]


class LinearOperator(Protocol):
    """Protocol of matrices that are given only through products.

    The names are SciPy's, so that :class:`scipy.sparse.linalg.LinearOperator` satisfies it too.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the matrix, ``(n, n)``."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the products."""
        ...

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
        ...


def new_product(operator: LinearOperator, v: Vector) -> Vector:
    """Return ``operator.matvec(v)`` as an array that may be changed: not ``v`` itself, nor read-only.

    SciPy's identity, for one, returns its argument.
    """
    product = np.asarray(operator.matvec(v))
    return product if product.flags.writeable and not np.may_share_memory(product, v) else product.copy()


def columns(operator: LinearOperator, V: NDArray[Any]) -> NDArray[Any]:
    """Return the products with the columns of ``V`` one by one."""
    product = np.empty(V.shape, np.result_type(operator.dtype, V.dtype))
    for j in range(V.shape[1]):
        product[:, j] = operator.matvec(np.ascontiguousarray(V[:, j]))
    return product


def new_products(operator: LinearOperator, V: NDArray[Any]) -> NDArray[Any]:
    """Return the products with the columns of ``V`` (n, k), by ``matmat`` if there is one, as an array of their own."""
    product = np.asarray(operator.matmat(V)) if hasattr(operator, "matmat") else columns(operator, V)
    return product if product.flags.writeable and not np.may_share_memory(product, V) else product.copy()
