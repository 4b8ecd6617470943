"""Arrays for sums that are used again.

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
"""Numbers of an array from which on it is kept; the allocator keeps smaller ones itself."""


class Buffers:
    """Flat arrays by length, of one dtype; thread-safe. There are never more than were in use at one time.

    Parameters
    ----------
    dtype : dtype
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype, self._lock = dtype, threading.Lock()
        self._spare: defaultdict[int, list[NDArray[Any]]] = defaultdict(list)

    def take(self, n: int) -> NDArray[Any]:
        """Return an array of n numbers, whatever they are."""
        with self._lock:
            spare = self._spare[n]
            return spare.pop() if spare else np.empty(n, self._dtype)

    def give(self, arrays: Iterable[NDArray[Any]]) -> None:
        """Take back arrays that nobody else uses; those that are views, or small, are left to the allocator."""
        with self._lock:
            for array in arrays:
                if array.base is None and array.ndim == 1 and array.size >= _FEWEST and array.dtype == self._dtype:
                    self._spare[array.size].append(array)
