"""Blocks of rows: how large, and how they are read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.kernels.jit import kernel

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


def as_bytes(X: NDArray[Any]) -> NDArray[np.uint8]:
    """The memory of C-contiguous rows as the passes take them, so that each is compiled once for all dtypes of rows."""
    return X.view(np.uint8)


@kernel
def load_block(X: Any, start: int, stop: int, n: int, scale: Any, offset: Any, buffer: Any) -> Any:
    """Rows [start, stop) as X * scale + offset in the buffer's dtype; the rows themselves where nothing changes.

    ``X`` has the bytes of rows of ``n`` numbers: uint8 where it is n wide, else of the buffer's dtype.
    """
    block = buffer[: (stop - start) * n].reshape(stop - start, n)
    if X.shape[1] == n:
        for i in range(stop - start):
            source, target = X[start + i], block[i]
            for j in range(n):
                target[j] = buffer.dtype.type(source[j]) * scale + offset
        return block
    rows = X[start:stop].reshape((stop - start) * X.shape[1]).view(buffer.dtype).reshape(stop - start, n)
    if scale == 1 and offset == 0:
        return rows
    for i in range(stop - start):
        plain, target = rows[i], block[i]
        for j in range(n):
            target[j] = plain[j] * scale + offset
    return block


def work_size(sizes: tuple[int, ...], primal_width: int, block: int) -> int:
    """Numbers of scratch one thread needs for any pass: 5 to 20 MB for blocks of the usual networks.

    ``primal_width`` are the numbers of a row's primal pass.
    """
    return block * (sizes[0] + 3 * sizes[1] + primal_width + 2 * sum(sizes[1:]))
