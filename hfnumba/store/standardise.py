"""Standardisation of features: mean and deviation, computed in one stable pass over blocks of rows."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

CONSTANT = 1e-6
"""Ratio of deviation to mean below which a feature is constant in float32, and is only centred."""


class Standardisation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Mean and deviation of each feature as stored, and its origin.

    Attributes
    ----------
    mean, deviation : tuple of float
        One of each for every feature.
    origin : tuple of float
        What was subtracted from the features of the source, in float64, before they were stored in float32; empty for
        nothing.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    origin: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.deviation):
            raise ValueError("expected as many deviations as means")
        if self.origin and len(self.origin) != len(self.mean):
            raise ValueError("expected as many origins as means, or none")
        numbers = (*self.mean, *self.deviation, *self.origin)
        if not all(map(math.isfinite, numbers)) or min(self.deviation, default=0) <= 0:
            raise ValueError("expected finite means and positive finite deviations")

    def stored(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return features of the source as they are stored, but for rounding: ``X - origin`` in float64."""
        return subtract(X, np.array(self.origin)) if self.origin else X

    def apply(self, X: NDArray[Any]) -> NDArray[np.float32]:
        """Return ``(X - origin - mean) / deviation`` in float32 for features as the source has them, a new array."""
        values = self.stored(X).astype(np.float32)
        self.apply_in_place(values)
        return values

    def undo(self, Z: NDArray[Any]) -> NDArray[Any]:
        """Return ``Z * deviation + mean``, computed in float64, in the dtype of ``Z``."""
        values: NDArray[Any] = Z.astype(np.float64) * np.array(self.deviation) + np.array(self.mean)
        return values.astype(Z.dtype, copy=False)

    def apply_in_place(self, X: NDArray[np.float32]) -> None:
        """Replace features as stored by ``(X - mean) / deviation``."""
        X -= np.array(self.mean, np.float32)
        X /= np.array(self.deviation, np.float32)


class Moments:
    """Count, mean and sum of squared deviations of each feature, updated by blocks of rows in float64.

    Notes
    -----
    Blocks are joined by the pairwise update of Chan, Golub and LeVeque (1983), "Algorithms for computing the sample
    variance", eq. 2.1: no large sums are subtracted from each other, so a mean far from zero costs no digits.
    """

    def __init__(self, n_features: int) -> None:
        self.n = 0
        self.mean = np.zeros(n_features)
        self.squares = np.zeros(n_features)

    def update(self, X: NDArray[Any]) -> None:
        """Add a block of shape (rows, n_features)."""
        if not len(X):
            return
        block = X.astype(np.float64)
        mean = block.mean(axis=0)
        squares = np.square(block - mean).sum(axis=0)
        total = self.n + len(block)
        difference = mean - self.mean
        self.mean += difference * (len(block) / total)
        self.squares += squares + np.square(difference) * (self.n * len(block) / total)
        self.n = total

    def standardisation(self, origin: tuple[float, ...] = ()) -> Standardisation:
        """Mean and deviation (of the population); the deviation of a constant feature is 1."""
        deviation = np.sqrt(self.squares / max(self.n, 1))
        constant = deviation <= CONSTANT * np.abs(self.mean)
        return Standardisation(tuple(self.mean.tolist()), tuple(np.where(constant, 1.0, deviation).tolist()), origin)


def of_targets(moments: Moments) -> Standardisation:
    """Standardisation of targets: mean and deviation are numbers of float32, so that undoing it has the same numbers.

    A deviation that float32 does not distinguish from 0 is 1, as that of a constant target.
    """
    found = moments.standardisation()
    mean, deviation = (np.array(numbers, np.float32) for numbers in (found.mean, found.deviation))
    deviation[deviation < np.finfo(np.float32).tiny] = 1
    return Standardisation(tuple(mean.tolist()), tuple(deviation.tolist()))


def subtract(X: NDArray[Any], origin: NDArray[Any]) -> NDArray[np.float64]:
    """Return ``X - origin`` in float64; integers of 64 bits are not rounded before."""
    if not _is_long(X):
        return np.asarray(X - origin.astype(np.float64), np.float64)
    (high, low), (origin_high, origin_low) = _halves(X), _halves(origin)
    return high - origin_high + (low - origin_low)


def _is_long(X: NDArray[Any]) -> bool:
    return X.dtype.kind in "iu" and X.dtype.itemsize == 8


def _halves(X: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A multiple of 2**32 and the rest, both exact in float64."""
    if _is_long(X):
        return (X >> 32).astype(np.float64) * 2.0**32, (X & (2**32 - 1)).astype(np.float64)
    high = np.floor(X / 2.0**32) * 2.0**32
    return high, X - high
