"""Arrays whose memory returns to the system as soon as they are freed."""

from __future__ import annotations

import contextlib
import math
import mmap
import sys

import numpy as np
from numpy.typing import DTypeLike, NDArray

_LARGE = 2**20
_HUGE = 2**21
# Larger arrays are not populated in advance: a header may claim data that never arrive.
_POPULATED = 2**26
# MADV_POPULATE_WRITE of Linux 5.14, which the module mmap does not define.
_POPULATE_WRITE = 23


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.generic]:
    """Return an uninitialised array; a large one has memory pages of its own.

    A C library caches freed memory for the thread that used it. When threads take turns in reading partitions, each of
    them caches some, and a process grows to twice its data.

    The first access to a small page costs about as much as decoding the data for it. So huge pages are used as far as
    the array fills them, and the others are populated together.
    """
    kind = np.dtype(dtype)
    n = math.prod(shape) * kind.itemsize
    if n < _LARGE:
        return np.empty(shape, kind)
    # Private, because shared pages are never huge.
    pages = mmap.mmap(-1, n + _HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = -np.frombuffer(pages, np.uint8).ctypes.data % _HUGE
    if sys.platform == "linux":
        # Some kernels refuse this; it only affects speed.
        with contextlib.suppress(OSError):
            if n >= _HUGE:
                pages.madvise(mmap.MADV_HUGEPAGE, start, n // _HUGE * _HUGE)
            if n <= _POPULATED:
                pages.madvise(_POPULATE_WRITE, start, n)
    return np.frombuffer(pages, kind, math.prod(shape), start).reshape(shape)
