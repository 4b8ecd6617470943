"""Operators made from a function or from a dense array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from hfnumba.krylov.linear_operator import LinearOperator, Vector
from hfnumba.krylov.operator import Operator


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

    Examples
    --------
    >>> import numpy as np
    >>> from hfnumba.krylov import FunctionOperator
    >>> A = FunctionOperator(3, lambda v: 2 * v, np.float64)
    >>> (A + 0.5) @ np.ones(3)
    array([2.5, 2.5, 2.5])
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

    Returns
    -------
    LinearOperator
        The operator; the array is not copied unless its dtype changes.

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
