"""Reusable arrays for partial sums.

Memory that is new to a process costs about as much time as to fill it: the system maps and clears it page by page.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FEWEST = 1 << 15
"""Smallest length that is kept; the allocator itself reuses smaller blocks."""


class Buffers:
    """Flat arrays by length, of one dtype; thread-safe.

    Parameters
    ----------
    dtype : dtype
    most : int
        Number of arrays of a length that are kept.
    """

    def __init__(self, dtype: np.dtype[Any], most: int) -> None:
        self._dtype, self._most, self._lock = dtype, most, threading.Lock()
        self._spare: defaultdict[int, list[NDArray[Any]]] = defaultdict(list)

    def take(self, n: int) -> NDArray[Any]:
        """Return an array of length n with arbitrary contents."""
        with self._lock:
            spare = self._spare[n]
            return spare.pop() if spare else np.empty(n, self._dtype)

    def give(self, arrays: Iterable[NDArray[Any]]) -> None:
        """Take arrays that nobody else uses; those that are views, or small, or too many are left to the allocator."""
        with self._lock:
            for array in arrays:
                is_own = array.base is None and array.ndim == 1 and array.dtype == self._dtype
                if is_own and array.size >= _FEWEST and len(self._spare[array.size]) < self._most:
                    self._spare[array.size].append(array)
