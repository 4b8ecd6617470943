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
    """As :func:`numpy.array_equal`; most vectors differ in their first elements, which costs little to see."""
    if a.shape != b.shape or a[:1].tolist() != b[:1].tolist():
        return False
    return np.array_equal(a[:_GLANCE], b[:_GLANCE]) and np.array_equal(a, b)


class VectorTable:
    """Vectors by name, with counts of their users; a name is never used for another vector.

    Attributes
    ----------
    live : dict of str to ndarray
        The vectors in use.
    """

    def __init__(self) -> None:
        self.live: dict[str, NDArray[Any]] = {}
        self._new_nbytes = 0
        self._n_users: dict[str, int] = {}
        self._numbers = itertools.count()

    def acquire(self, vector: NDArray[Any]) -> str:
        """Return the name of ``vector``, which is live (not copied) until it is released as often as it was acquired.

        A vector equal to a live one has that one's name: comparing costs less than sending.
        """
        for name, other in list(self.live.items()):
            if other is vector or _are_equal(other, vector):
                self._n_users[name] += 1
                return name
        name = f"v{next(self._numbers)}"
        self.live[name], self._n_users[name] = vector, 1
        self._new_nbytes += vector.nbytes
        return name

    def release(self, name: str) -> None:
        """Undo one :meth:`acquire`."""
        self._n_users[name] -= 1
        if not self._n_users[name]:
            del self.live[name], self._n_users[name]

    def take_nbytes(self) -> int:
        """Return the bytes of new vectors since the last call: what a round has to send to a worker."""
        nbytes, self._new_nbytes = self._new_nbytes, 0
        return nbytes

    @contextmanager
    def using(self, vector: NDArray[Any]) -> Iterator[str]:
        """Acquire for the time of a ``with`` block."""
        name = self.acquire(vector)
        try:
            yield name
        finally:
            self.release(name)
