"""Inner products and sums of vectors, with the same bits whatever the number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.floating[Any]]


def dot(u: Vector, v: Vector) -> float:
    """Return u'v, accumulated in float64 for float32 vectors as well, without a float64 copy of either.

    Not a BLAS dot: BLAS splits long vectors over its threads, so that the last bits would depend on their
    number; and in float32 squared norms would overflow above 1e19. Not finite if an entry is not; einsum does not
    warn of it.
    """
    return float(np.einsum("i,i->", u, v, dtype=np.float64))


def add_scaled(y: Vector, scale: float, v: Vector, scratch: Vector) -> None:
    """Add ``scale * v`` to y in place, with a scratch vector for a temporary; overflow gives infinities."""
    with np.errstate(over="ignore", invalid="ignore"):
        np.multiply(v, scale, out=scratch)
        np.add(y, scratch, out=y)
