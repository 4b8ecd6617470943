"""Blocks of rows: how large, and how they are read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from hfnumba.kernels.jit import OPTIONS

BLOCK_ROWS, WIDE_BLOCK_ROWS, WIDE_N_PARAMS = 256, 512, 1_000_000
_LANES = 16


def block_rows(n_rows: int, n_params: int) -> int:
    """Rows of a block: even parts of at most 256 rows, 512 for networks of a million parameters and more.

    A block adds into all of W once, at the cost of reading and writing it; its GEMMs do ``rows`` times that much
    arithmetic. 256 rows hide it while W fits into the second-level cache, 512 when it does not. Parts are rounded
    up to 16 rows, GEMM's tile.
    """
    largest = WIDE_BLOCK_ROWS if n_params >= WIDE_N_PARAMS else BLOCK_ROWS
    n_blocks = max(1, -(-n_rows // largest))
    even = -(-n_rows // n_blocks)
    return max(1, -(-even // _LANES) * _LANES)


def load_block(X: Any, start: int, stop: int, scale: Any, offset: Any, buffer: Any) -> Any:
    """Rows [start, stop) as X * scale + offset in the buffer's dtype; the rows themselves where nothing changes."""
    if X.dtype == buffer.dtype and scale == 1 and offset == 0:
        return X[start:stop]
    block = buffer[: (stop - start) * X.shape[1]].reshape(stop - start, X.shape[1])
    block[...] = X[start:stop].astype(buffer.dtype) * scale + offset
    return block


@overload(load_block, jit_options=OPTIONS)
def _load_block_compiled(X: Any, start: Any, stop: Any, scale: Any, offset: Any, buffer: Any) -> Any:
    same = X.dtype == buffer.dtype
    cast = np.float32 if buffer.dtype == types.float32 else np.float64

    def compiled(X: Any, start: Any, stop: Any, scale: Any, offset: Any, buffer: Any) -> Any:
        n = X.shape[1]
        if same and scale == 1 and offset == 0:
            return X[start:stop]
        block = buffer[: (stop - start) * n].reshape(stop - start, n)
        for i in range(stop - start):
            source, target = X[start + i], block[i]
            for j in range(n):
                target[j] = cast(source[j]) * scale + offset
        return block

    return compiled


def work_size(sizes: tuple[int, ...], block: int) -> int:
    """Numbers of scratch one thread needs for any pass: 5 to 20 MB for blocks of the usual networks."""
    return block * (sizes[0] + 3 * sizes[1] + 4 * sum(sizes[1:]))
