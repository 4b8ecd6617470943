"""Arrays whose memory goes back to the system at once when they are dropped."""

from __future__ import annotations

import contextlib
import math
import mmap
import sys

import numpy as np
from numpy.typing import DTypeLike, NDArray

_LARGE = 2**20
_HUGE = 2**21
# More is not taken before it is filled: a header may claim what never comes.
_POPULATED = 2**26
# Of Linux since 5.14; the module does not name it.
_POPULATE_WRITE = 23


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.generic]:
    """An array to be filled; a large one in pages of its own.

    A C library keeps what is freed for the thread that had it. Where threads take turns in reading partitions, each
    then keeps some, and a process grows to twice what it holds.

    A small page that is touched for the first time costs about as much as to decode what goes into it. So huge pages
    are used as far as the array fills them, and the others are asked for together.
    """
    kind = np.dtype(dtype)
    n = math.prod(shape) * kind.itemsize
    if n < _LARGE:
        return np.empty(shape, kind)
    # Private, since shared pages are never huge.
    pages = mmap.mmap(-1, n + _HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = -np.frombuffer(pages, np.uint8).ctypes.data % _HUGE
    if sys.platform == "linux":
        # Refused by old or small kernels, and only a matter of time.
        with contextlib.suppress(OSError):
            if n >= _HUGE:
                pages.madvise(mmap.MADV_HUGEPAGE, start, n // _HUGE * _HUGE)
            if n <= _POPULATED:
                pages.madvise(_POPULATE_WRITE, start, n)
    return np.frombuffer(pages, kind, math.prod(shape), start).reshape(shape)
