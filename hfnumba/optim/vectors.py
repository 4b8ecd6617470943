"""Small operations on vectors, and the noise level of a loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.krylov.vectors import dot

Vector = NDArray[np.floating[Any]]

LOSS_NOISE = 1e-7
"""Relative size of a loss difference that float32 forward passes cannot resolve (sums are in float64)."""


def norm(a: Vector) -> float:
    """Return ‖a‖₂ in float64."""
    return math.sqrt(dot(a, a))


def all_finite(a: Vector) -> bool:
    """Return whether every entry is a finite number."""
    return bool(np.isfinite(a).all())


def step(theta: Vector, alpha: float, d: Vector) -> Vector:
    """Return theta + alpha·d as a new vector of theta's dtype; overflow gives infinities, no warning."""
    with np.errstate(all="ignore"):
        moved: Vector = theta + theta.dtype.type(alpha) * d.astype(theta.dtype, copy=False)
    return moved


def noise_of(value: float) -> float:
    """Return the smallest difference from a loss of this size that is significant."""
    return LOSS_NOISE * abs(value)
