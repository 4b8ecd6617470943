"""Rounding to float32: columns whose values it would make the same, and the origins that are subtracted before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import DataError
from hfnumba.store.standardise import CONSTANT, subtract

MIN_STEPS = 256
"""Number of steps (spacings of float32) that a column must span, from its smallest to its largest value."""

LARGEST_WHOLE = 2.0**53
"""Limit up to which float64 has every whole number."""

BLOCK = 8192
"""Number of rows that are measured together."""


@dataclass
class Ranges:
    """Smallest and largest value of each column of the training rows, over blocks of them.

    Attributes
    ----------
    lowest, highest : ndarray of shape (n_columns,) or None
        None where no block had a dtype that float32 rounds.
    inexact : ndarray of bool or None
        Whether float32 changes a value, for columns that span few of its steps.
    parsed : bool
        Whether the values were whole numbers that reading may already have rounded to float64.
    """

    lowest: NDArray[Any] | None = None
    highest: NDArray[Any] | None = None
    inexact: NDArray[np.bool_] | None = None
    parsed: bool = False

    def update(self, block: NDArray[Any]) -> None:
        """Add rows of shape (rows, n_columns); those that float32 does not round are passed over."""
        if block.dtype.kind not in "iuf" or np.can_cast(block.dtype, np.float32) or not block.size:
            return
        low, high = block.min(axis=0), block.max(axis=0)
        if self.inexact is None:
            self.inexact = np.zeros(len(low), bool)
        with np.errstate(over="ignore", invalid="ignore"):
            largest = _largest(low, high)
            # A block may be below the power of two at which the steps of the whole column double.
            few = (largest > 0) & (subtract(high, low) < 2 * MIN_STEPS * _spacing32(largest))
            if (few := few & ~self.inexact).any():
                values = block[:, few]
                self.inexact[few] = (subtract(values, values.astype(np.float32).astype(np.float64)) != 0).any(axis=0)
        self.lowest = low if self.lowest is None else np.minimum(self.lowest, low)
        self.highest = high if self.highest is None else np.maximum(self.highest, high)

    def update_all(self, X: NDArray[Any]) -> None:
        """Add all rows of an array, which may be a file larger than memory."""
        if X.ndim < 2 or not X.size:
            return
        for first in range(0, len(X), BLOCK):
            rows = X[first : first + BLOCK]
            self.update(rows.reshape(len(rows), -1))

    def origin(self, name: Callable[[int], str], advice: str | None) -> NDArray[np.float64] | None:
        """Return what is to be subtracted from each column before rounding: 0 from most; None if nothing from any.

        A column whose values float32 has is left as it is, unless its deviation is surely so small that standardisation
        would take it for a constant. A column that differs only in the last digits of float64, which are errors of
        calculation, is constant.

        Parameters
        ----------
        name : callable
            Function that returns the name of a column for messages, by its number.
        advice : str or None
            What to do where a column spans fewer than ``MIN_STEPS`` steps of float32; None to subtract an origin.

        Raises
        ------
        DataError
            If float32 changes values of such a column, and nothing is to be subtracted or that would not help.
        """
        if self.lowest is None or self.highest is None or self.inexact is None:
            return None
        low, high = self.lowest, self.highest
        with np.errstate(over="ignore", invalid="ignore"):
            largest = _largest(low, high)
            span, fine, step = subtract(high, low), np.spacing(largest), _spacing32(largest)
            centred = (advice is None) & (span <= 2 * CONSTANT * largest)
            differs = (span > 0) & (span < MIN_STEPS * step) & (self.inexact | centred)
            tiny = differs & (span < MIN_STEPS * _spacing32(span))
        if low.dtype.kind == "f":
            differs &= (span >= MIN_STEPS * fine) | (largest >= LARGEST_WHOLE)
        lost = self.parsed & (largest >= LARGEST_WHOLE) & (largest <= 2.0**64) & (span < MIN_STEPS * fine)
        for bad, steps, of, what in (
            (lost, fine, "float64", "subtract an offset in the file"),
            (tiny, step, "float32", "multiply by a factor first"),
            (differs & (advice is not None), step, "float32", advice),
        ):
            for j in np.flatnonzero(bad)[:1]:
                ends = f"goes from {_text(low[j])} to {_text(high[j])}"
                raise DataError(f"{name(j)} {ends}, where {of} has steps of {steps[j]:g}: {what}")
        if not differs.any():
            return None
        middle = low.astype(np.float64) + span / 2
        return np.where(differs, np.rint(middle) if low.dtype.kind in "iu" else middle, 0.0)


def refuse_rounded(name: str, values: NDArray[Any], advice: str, *, parsed: bool = False) -> None:
    """Raise if rounding to float32 would make the values of a column the same; see :meth:`Ranges.origin`."""
    ranges = Ranges(parsed=parsed)
    ranges.update_all(values[:, None] if values.ndim == 1 else values)
    ranges.origin(lambda j: f"{name} {j} (counted from 0)", advice)


def _largest(low: NDArray[Any], high: NDArray[Any]) -> NDArray[np.float64]:
    return np.maximum(np.abs(low.astype(np.float64)), np.abs(high.astype(np.float64)))


def _spacing32(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.spacing(values.astype(np.float32)).astype(np.float64)


def _text(value: Any) -> str:
    whole = value.dtype.kind != "f" or (LARGEST_WHOLE <= abs(value) < 2.0**64)
    return str(int(value)) if whole else f"{value:.15g}"
