"""Sums along a fixed binary tree, whatever the order in which the parts arrive.

Floating-point addition is not associative; here the order of additions follows from partition numbers alone. Node
(level, i) is the sum of nodes (level - 1, 2i) and (level - 1, 2i + 1); a node without a right sibling passes up
unchanged. So any worker may add whatever whole subtrees it holds, and the result has the same bits.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A node's number in the tree, and what an evaluation sums: a few arrays of fixed shapes.
Node = tuple[int, int]
Sums = tuple[NDArray[Any], ...]


class TreeSum:
    """Collects nodes and adds siblings as soon as both are there; thread-safe, and it may add in place.

    At most one array per thread and level is alive at a time.

    Parameters
    ----------
    n_partitions : int
        Leaves of the whole tree.
    """

    def __init__(self, n_partitions: int) -> None:
        self._widths = [n_partitions]
        while self._widths[-1] > 1:
            self._widths.append((self._widths[-1] + 1) // 2)
        self._waiting: dict[Node, Sums] = {}
        self._lock = threading.Lock()

    def add(self, node: Node, sums: Sums) -> None:
        """Take a node's sums; the arrays belong to the tree from now on."""
        level, index = node
        while True:
            with self._lock:
                if (level, index) in self._waiting:
                    raise RuntimeError(f"node {(level, index)} came twice")
                alone = index ^ 1 >= self._widths[level]
                sibling = None if alone else self._waiting.pop((level, index ^ 1), None)
                if level == len(self._widths) - 1 or (sibling is None and not alone):
                    self._waiting[level, index] = sums
                    return
            if sibling is not None:
                left, right = (sums, sibling) if index % 2 == 0 else (sibling, sums)
                for a, b in zip(left, right, strict=True):
                    np.add(a, b, out=a)
                sums = left
            level, index = level + 1, index // 2

    def nodes(self) -> dict[Node, Sums]:
        """The sums that have no sibling here: the whole sum, or what others have to complete."""
        return dict(self._waiting)

    def total(self) -> Sums:
        """The sum over all partitions."""
        root = (len(self._widths) - 1, 0)
        if set(self._waiting) != {root}:
            raise RuntimeError(f"the sum is not complete: {sorted(self._waiting)} of {self._widths[0]} partitions")
        return self._waiting[root]
