"""Kaldi's compressed matrices, decompressed with its arithmetic (``matrix/compressed-matrix.h``)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CELL_NBYTES = {1: 1, 2: 2, 3: 1}
"""Bytes of a value in each of the three kinds of compression."""


def decompressed(kind: int, shape: tuple[int, int], low: float, span: float, data: bytes) -> NDArray[np.float32]:
    """Decompress a matrix, in float64 where Kaldi uses it.

    Parameters
    ----------
    kind : {1, 2, 3}
        Values in bytes by quartiles of their column, in 16 bits, or in bytes.
    shape : tuple of int
    low, span : float
        Smallest value, and distance of the largest from it.
    data : bytes
    """
    lowest, (rows, columns) = np.float32(low), shape
    if kind != 1:
        cells = np.frombuffer(data, "<u2" if kind == 2 else "u1").reshape(shape)
        with np.errstate(all="ignore"):
            step = np.float32(span * (1 / 65535 if kind == 2 else 1 / 255))
            return lowest + step * cells.astype(np.float32)
    headers = np.frombuffer(data, "<u2", 4 * columns).reshape(columns, 4)
    cells = np.frombuffer(data, "u1", offset=8 * columns).reshape(columns, rows).astype(np.float32)
    with np.errstate(all="ignore"):
        quartiles = lowest + (np.float32(span) * np.float32(1.52590218966964e-05)) * headers.astype(np.float32)
        p0, p25, p75, p100 = (quartiles[:, [k]] for k in range(4))
        values = np.where(
            cells <= 64,
            p0 + ((p25 - p0) * cells).astype(np.float64) * (1 / 64),
            np.where(
                cells <= 192,
                p25 + ((p75 - p25) * (cells - 64)).astype(np.float64) * (1 / 128),
                p75 + ((p100 - p75) * (cells - 192)).astype(np.float64) * (1 / 63),
            ),
        )
        return np.ascontiguousarray(values.T.astype(np.float32))
