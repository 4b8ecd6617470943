"""Arrays whose memory goes back to the system at once when they are dropped."""

from __future__ import annotations

import math
import mmap

import numpy as np
from numpy.typing import DTypeLike, NDArray

_LARGE = 2**20


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.generic]:
    """An array to be filled; a large one in pages of its own.

    A C library keeps what is freed for the thread that had it. Where threads take turns in reading partitions, each
    then keeps some, and a process grows to twice what it holds.
    """
    kind = np.dtype(dtype)
    n = math.prod(shape) * kind.itemsize
    if n < _LARGE:
        return np.empty(shape, kind)
    # Private, since shared pages are never huge.
    pages = mmap.mmap(-1, n, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, kind, math.prod(shape)).reshape(shape)
