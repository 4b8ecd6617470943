"""Whether a column numbers its rows, which lets a network learn their order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_RUNNING = 20
"""Number of rows from which consecutive whole numbers are taken for running numbers."""

N_FIRST = 256
"""Number of first rows whose features are all compared."""

BLOCK = 8192
"""Number of rows that are read together."""


@dataclass
class Numbering:
    """Statistics of the values of a file: whether they are in order, or consecutive whole numbers in any order."""

    n: int = 0
    base: float = 0.0
    low: float = np.inf
    high: float = -np.inf
    total: float = 0.0
    squares: float = 0.0
    last: float | None = None
    rises: bool = True
    falls: bool = True

    def update(self, values: NDArray[np.float64]) -> None:
        """Add values; a fraction, a missing or an infinite one makes the sums NaN."""
        if not len(values):
            return
        before = values[:-1] if self.last is None else np.concatenate([[self.last], values[:-1]])
        after = values[len(values) - len(before) :]
        self.rises, self.falls = (
            self.rises and bool((after > before).all()),
            self.falls and bool((after < before).all()),
        )
        self.last = float(values[-1])
        if not self.n:
            self.base = float(values[0])
        with np.errstate(invalid="ignore", over="ignore"):
            from_base = np.where(values == np.floor(values), values - self.base, np.nan)
            self.n += len(values)
            self.low, self.high = min(self.low, float(from_base.min())), max(self.high, float(from_base.max()))
            self.total += float(from_base.sum())
            self.squares += float(np.square(from_base).sum())

    @property
    def ordered(self) -> bool:
        """Whether each value is larger than the one before it, or each smaller."""
        return self.rises or self.falls

    @property
    def consecutive(self) -> bool:
        """Whether number, range, sum and sum of squares are those of consecutive whole numbers."""
        n, low = self.n, self.low
        if n < 2 or self.high - low != n - 1 or not np.isfinite(self.squares):
            return False
        total = n * low + n * (n - 1) / 2
        squares = n * low**2 + low * n * (n - 1) + (n - 1) * n * (2 * n - 1) / 6
        return bool(np.isclose(self.total, total, rtol=1e-9) and np.isclose(self.squares, squares, rtol=1e-9))


def numbering_features(X: NDArray[Any]) -> Iterator[tuple[int, bool]]:
    """Yield the features that number the rows, each with whether its values are consecutive, in steps of one.

    All features of the first rows are read, and all rows of the few features that may number them.
    """
    if X.ndim < 2 or len(X) < MIN_RUNNING:
        return
    rows = X.reshape(len(X), -1)
    with np.errstate(invalid="ignore", over="ignore"):
        first = rows[:N_FIRST].astype(np.float64)
        from_first = first - first[0]
        steps = np.diff(first, axis=0)
        ordered = (steps > 0).all(axis=0) | (steps < 0).all(axis=0)
        whole = (from_first == np.floor(from_first)).all(axis=0)
        distinct = (np.diff(np.sort(first, axis=0), axis=0) > 0).all(axis=0)
    for j in np.flatnonzero(ordered | (whole & distinct)).tolist():
        found = Numbering()
        for start in range(0, len(rows), BLOCK):
            found.update(rows[start : start + BLOCK, j].astype(np.float64) - first[0, j])
        if found.consecutive or found.ordered:
            yield j, found.consecutive
