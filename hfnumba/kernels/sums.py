"""Additions of partitions' sums, and their division: each element in one pass over memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from hfnumba.kernels.jit import kernel


@kernel
def add(left: Any, right: Any) -> None:
    """left <- left + right, for arrays (n,)."""
    for i in range(left.size):
        left[i] += right[i]


@kernel
def add_and_divide(left: Any, right: Any, divisor: Any) -> None:
    """left <- (left + right) / divisor, for arrays (n,) and a number of their dtype."""
    for i in range(left.size):
        left[i] = (left[i] + right[i]) / divisor


@kernel
def divide(x: Any, divisor: Any) -> None:
    """x <- x / divisor, for an array (n,) and a number of its dtype."""
    for i in range(x.size):
        x[i] /= divisor


def exercise() -> None:
    """Compile for the dtypes of vectors and of losses."""
    for dtype in (np.float32, np.float64):
        x, one = np.zeros(2, dtype), dtype(1)
        add(x, x.copy())
        add_and_divide(x, x.copy(), one)
        divide(x, one)
