"""Standardisation of features: mean and deviation, computed in one stable pass over blocks of rows."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

CONSTANT = 1e-6
"""Ratio of deviation to mean below which a feature is constant in float32, and is only centred."""


class Standardisation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Mean and deviation of each feature."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.deviation):
            raise ValueError("expected as many deviations as means")
        if not all(map(math.isfinite, (*self.mean, *self.deviation))) or min(self.deviation, default=0) <= 0:
            raise ValueError("expected finite means and positive finite deviations")

    def apply(self, X: NDArray[Any]) -> NDArray[np.float32]:
        """Return ``(X - mean) / deviation`` in float32, a new array."""
        values = X.astype(np.float32)
        self.apply_in_place(values)
        return values

    def apply_in_place(self, X: NDArray[np.float32]) -> None:
        """Replace float32 features by ``(X - mean) / deviation``."""
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

    def standardisation(self) -> Standardisation:
        """Mean and deviation (of the population); the deviation of a constant feature is 1."""
        deviation = np.sqrt(self.squares / max(self.n, 1))
        constant = deviation <= CONSTANT * np.abs(self.mean)
        return Standardisation(tuple(self.mean.tolist()), tuple(np.where(constant, 1.0, deviation).tolist()))
