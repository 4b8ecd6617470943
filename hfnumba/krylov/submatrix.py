"""Principal submatrix of an operator: the block of some consecutive rows and columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.krylov.linear_operator import LinearOperator, Vector, new_product, new_products
from hfnumba.krylov.operator import Operator


@dataclass(frozen=True, eq=False, repr=False)
class SubmatrixOperator(Operator):
    """The block A[start:stop, start:stop] of a symmetric matrix A.

    Parameters
    ----------
    operator : LinearOperator
        The matrix A, of order n.
    start, stop : int
        First row and column of the block, and the one after its last; 0 <= start < stop <= n.

    Raises
    ------
    ValueError
        If that is no block of the matrix.

    Notes
    -----
    A product costs one of A with a vector that is 0 outside the block, and a vector of its length.
    """

    operator: LinearOperator
    start: int
    stop: int

    def __post_init__(self) -> None:
        n = self.operator.shape[0]
        if not 0 <= self.start < self.stop <= n:
            raise ValueError(f"expected 0 <= start < stop <= {n}, got {self.start} and {self.stop}")

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the block."""
        return (self.stop - self.start, self.stop - self.start)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the products."""
        return self.operator.dtype

    def matvec(self, v: Vector) -> Vector:
        """Return the product of the block with a vector."""
        return new_product(self.operator, self._padded(v))[self.start : self.stop].copy()

    def matmat(self, V: NDArray[Any]) -> NDArray[Any]:
        """Return the products of the block with the columns of a matrix."""
        return new_products(self.operator, self._padded(V))[self.start : self.stop].copy()

    def _padded(self, v: NDArray[Any]) -> NDArray[Any]:
        padded = np.zeros((self.operator.shape[0], *v.shape[1:]), v.dtype)
        padded[self.start : self.stop] = v
        return padded
