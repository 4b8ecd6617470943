"""Standardisation of features and targets in float64, before they are rounded to float32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.store.standardise import subtract

BLOCK = 8192
"""Number of rows that are converted together."""

# Ratio of deviation to mean below which a column has nothing but the rounding errors of float64.
_CONSTANT = 1e-13


@dataclass(frozen=True, eq=False)
class Scaling:
    """Mean and deviation of each column.

    Attributes
    ----------
    mean, deviation : ndarray of float64, shape (n_columns,)
        The deviation of a constant column is 1.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def apply(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return ``(values - mean) / deviation`` in float32, a new array."""
        out = np.empty(values.shape, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for first in range(0, len(values), BLOCK):
                block = subtract(values[first : first + BLOCK], self.mean)
                out[first : first + BLOCK] = np.divide(block, self.deviation, out=block)
        return out

    def invert(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return ``values * deviation + mean``, in float64; lazily for an array of Dask."""
        return values.astype(np.float64) * self.deviation + self.mean


def dense_blocks(values: Any) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield the blocks of rows of an array or a sparse matrix in CSR form, as arrays."""
    for first in range(0, values.shape[0], BLOCK):
        rows = slice(first, min(first + BLOCK, values.shape[0]))
        block = values[rows]
        yield rows, block.toarray() if hasattr(block, "toarray") else block


def measure(what: str, values: Any, weights: NDArray[np.float64] | None) -> Scaling:
    """Return mean and deviation of the columns of an array or a sparse matrix, over rows with weights. Two passes.

    Raises
    ------
    DataError
        If they are not finite.
    """
    own = np.ones(values.shape[0]) if weights is None else weights / weights.max()
    mean, squares, total = np.zeros(values.shape[1]), np.zeros(values.shape[1]), own.sum()
    with np.errstate(over="ignore", invalid="ignore"):
        for rows, block in dense_blocks(values):
            mean += own[rows] @ block.astype(np.float64) / total
        for rows, block in dense_blocks(values):
            squares += own[rows] @ np.square(subtract(block, mean)) / total
    return scaling_of(what, mean, squares, whole=values.dtype.kind != "f")


def scaling_of(what: str, mean: NDArray[np.float64], squares: NDArray[np.float64], *, whole: bool) -> Scaling:
    """Return the standardisation by means and mean squared deviations of columns, of ``whole`` numbers or of others.

    Raises
    ------
    DataError
        If they are not finite.
    """
    deviation = np.sqrt(squares)
    if not np.isfinite(deviation).all():
        column = int(np.argmin(np.isfinite(deviation)))
        raise DataError(
            f"{what} {column} (counted from 0) has NaN, infinite or very large values; correct them, or multiply it by "
            "a factor first"
        )
    constant = deviation <= (0.0 if whole else _CONSTANT) * np.abs(mean)
    return Scaling(mean, np.where(constant, 1.0, deviation))
