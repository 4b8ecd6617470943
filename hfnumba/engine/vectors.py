"""The vectors that rounds refer to by name, so that each travels once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

_GLANCE = 64


def _are_equal(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """As :func:`numpy.array_equal`; most vectors differ within their first elements, which costs little to see."""
    return a.shape == b.shape and np.array_equal(a[:_GLANCE], b[:_GLANCE]) and np.array_equal(a, b)


class VectorTable:
    """Vectors by name, counted by their holders; a name is never used for another vector.

    Attributes
    ----------
    live : dict of str to ndarray
        The vectors somebody holds.
    """

    def __init__(self) -> None:
        self.live: dict[str, NDArray[Any]] = {}
        self._new_nbytes = 0
        self._holders: dict[str, int] = {}
        self._numbers = itertools.count()

    def hold(self, vector: NDArray[Any]) -> str:
        """The name of ``vector``, which is kept (not copied) until it is released as often as it was held.

        A vector equal to a live one has that one's name: comparing costs less than sending.
        """
        for name, other in self.live.items():
            if other is vector or _are_equal(other, vector):
                self._holders[name] += 1
                return name
        name = f"v{next(self._numbers)}"
        self.live[name], self._holders[name] = vector, 1
        self._new_nbytes += vector.nbytes
        return name

    def release(self, name: str) -> None:
        """Undo one :meth:`hold`."""
        self._holders[name] -= 1
        if not self._holders[name]:
            del self.live[name], self._holders[name]

    def take_nbytes(self) -> int:
        """Bytes of the vectors that came in since the last call: what a round has to send to a worker."""
        nbytes, self._new_nbytes = self._new_nbytes, 0
        return nbytes

    @contextmanager
    def holding(self, vector: NDArray[Any]) -> Iterator[str]:
        """Hold for the time of a ``with`` block."""
        name = self.hold(vector)
        try:
            yield name
        finally:
            self.release(name)
