"""Sums along a fixed binary tree, independent of the order in which the terms arrive.

Floating-point addition is not associative; here the order of additions follows from partition numbers alone. Node
(level, i) is the sum of nodes (level - 1, 2i) and (level - 1, 2i + 1); a node without a right sibling passes up
unchanged. So any worker may add the whole subtrees that it has, and the result has the same bits. Elements are
independent of each other, so it makes no difference either whether whole arrays or pieces of them are added.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.kernels.sums import add, add_and_divide, divide

# A node's number in the tree, and what an evaluation sums: a few arrays of fixed shapes.
Node = tuple[int, int]
Sums = tuple[NDArray[Any], ...]
Shape = tuple[tuple[int, ...], np.dtype[Any]]
# What each array of a sum is divided by, in the array's dtype; None for those that are not. Empty: none is.
Divisors = tuple[Any, ...]
# Elements that are added at a time: all operands of a piece stay in a processor's second cache.
_PIECE = 1 << 15


def _widths(n_partitions: int) -> list[int]:
    """Nodes on each level."""
    widths = [n_partitions]
    while widths[-1] > 1:
        widths.append((widths[-1] + 1) // 2)
    return widths


def leaves(node: Node, n_partitions: int) -> range:
    """The partitions below a node."""
    level, index = node
    return range(index << level, min((index + 1) << level, n_partitions))


def covering(partitions: Iterable[int], n_partitions: int) -> set[Node]:
    """The nodes that :class:`TreeSum` makes of some partitions: the fewest that have them all below."""
    here, covered = set(partitions), set[Node]()
    for level, width in enumerate(_widths(n_partitions)):
        above = {i // 2 for i in here if i ^ 1 in here or i ^ 1 >= width} if width > 1 else set()
        covered |= {(level, i) for i in here if i // 2 not in above}
        here = above
    return covered


def add_up(nodes: Mapping[Node, Sums], n_partitions: int, divisors: Divisors = ()) -> tuple[Sums, bool]:
    """The sum of nodes that have all partitions below them, in new arrays, and whether it is finite.

    Every operand is read once, and every element of the sum, divided where there is a divisor, is written once.
    """
    return _added(nodes, _widths(n_partitions), (len(_widths(n_partitions)) - 1, 0), divisors)


def join(nodes: Mapping[Node, Sums], n_partitions: int) -> tuple[dict[Node, Sums], bool]:
    """The sums of the same partitions as the fewest nodes, in new arrays, and whether all are finite."""
    widths = _widths(n_partitions)
    joined: dict[Node, Sums] = {}
    finite = True
    there = itertools.chain.from_iterable(leaves(node, n_partitions) for node in nodes)
    for node in sorted(covering(there, n_partitions)):
        joined[node], fine = _added(nodes, widths, node)
        finite &= fine
    return joined, finite


def _added(nodes: Mapping[Node, Sums], widths: list[int], root: Node, divisors: Divisors = ()) -> tuple[Sums, bool]:
    """A node's sums in new arrays, from any that have all its partitions below them; whether they are finite."""
    n_partitions = widths[0]
    below = leaves(root, n_partitions)
    mine = {node: sums for node, sums in nodes.items() if leaves(node, n_partitions).start in below}
    some = next(iter(mine.values()))
    total = tuple(np.empty(array.shape, array.dtype) for array in some)
    finite = True
    for k, (out, divisor) in enumerate(_with_divisors(total, divisors)):
        flat = {node: sums[k].reshape(-1) for node, sums in mine.items()}
        finite &= _add_flat(flat, out.reshape(-1), widths, root, divisor)
    return total, finite


def _with_divisors(sums: Sums, divisors: Divisors) -> Iterator[tuple[NDArray[Any], Any]]:
    return zip(sums, divisors or itertools.repeat(None, len(sums)), strict=True)


def _add_flat(
    operands: Mapping[Node, NDArray[Any]], out: NDArray[Any], widths: list[int], root: Node, divisor: Any
) -> bool:
    """Write the (divided) sum of one-dimensional arrays into ``out``; whether it is finite."""
    top, n_scratch = root[0], min(_PIECE, out.size)
    scratch = {(level, side): np.empty(n_scratch, out.dtype) for level in range(1, top) for side in (0, 1)}

    def value(level: int, index: int, piece: slice, target: NDArray[Any]) -> NDArray[Any]:
        """A node's piece: as it came, or added into ``target``."""
        operand = operands.get((level, index))
        if operand is not None:
            return operand[piece]
        size = len(target)
        left = value(level - 1, 2 * index, piece, scratch[level - 1, 0][:size] if level > 1 else target)
        if 2 * index + 1 >= widths[level - 1]:
            return left
        right = value(level - 1, 2 * index + 1, piece, scratch[level - 1, 1][:size] if level > 1 else target)
        np.add(left, right, out=target)
        return target

    finite = True
    # Callers check for overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, out.size, _PIECE):
            piece = slice(start, start + _PIECE)
            target = out[piece]
            found = value(*root, piece, target)
            if found is not target:
                target[...] = found
            # A sum is finite only if all its terms are; here they are in the cache.
            finite &= bool(np.isfinite(target.sum()))
            if divisor is not None:
                np.divide(target, divisor, out=target)
    return finite


def finish(pairs: Sequence[tuple[Sums, Sums]], total: Sums, divisors: Divisors, share: int, n_shares: int) -> None:
    """Add and divide a share of the elements of the last arrays of a sum: left += right for each pair, then the total.

    Threads that take all shares between them, in any order, add and divide each element just once. There is one call
    a pair that releases the interpreter's lock: with two threads, giving it back and forth costs more than to add.

    Parameters
    ----------
    pairs : sequence of (Sums, Sums)
        Pairs to add, in the order of :meth:`TreeSum.pairs`.
    total : tuple of ndarray
        Arrays that are divided, in place, after it was added: the left side of the last pair, if there is any.
    divisors : Divisors
        Divisors of the arrays of ``total``.
    share, n_shares : int
        Number of the share, from 0, and number of shares.
    """
    for k, (out, divisor) in enumerate(_with_divisors(total, divisors)):
        piece = slice(share * out.size // n_shares, (share + 1) * out.size // n_shares)
        sides = [(left[k].reshape(-1)[piece], right[k].reshape(-1)[piece]) for left, right in pairs]
        last = sides.pop() if sides and divisor is not None else None
        for left, right in sides:
            add(left, right)
        if last is not None:
            add_and_divide(*last, divisor)
        elif divisor is not None:
            divide(out.reshape(-1)[piece], divisor)


class TreeSum:
    """Collects nodes and adds siblings as soon as both are there; thread-safe, and it may add in place.

    At most one array per thread and level is alive at a time.

    Parameters
    ----------
    n_partitions : int
        Leaves of the whole tree.
    give : callable, optional
        Called with arrays that the tree no longer uses.
    """

    def __init__(self, n_partitions: int, give: Callable[[Sums], None] | None = None) -> None:
        self._widths, self._give = _widths(n_partitions), give
        self._waiting: dict[Node, Sums] = {}
        self._lock = threading.Lock()

    def add(self, node: Node, sums: Sums) -> None:
        """Take a node's sums; the arrays belong to the tree from now on."""
        while (met := self._meet(node, sums)) is not None:
            node, left, right = met
            for a, b in zip(left, right, strict=True):
                np.add(a, b, out=a)
            sums = left
            if self._give is not None:
                self._give(right)

    def put(self, node: Node, sums: Sums) -> None:
        """Take a node's sums, and leave their addition to the caller of :meth:`pairs`."""
        with self._lock:
            self._place(node, sums)

    def pairs(self) -> list[tuple[Sums, Sums]]:
        """The additions that are left, each left += right, in their order; they count as done from now on."""
        found = []
        for level in range(len(self._widths) - 1):
            for node in sorted(node for node in self._waiting if node[0] == level):
                sums = self._waiting.pop(node, None)
                if sums is not None and (met := self._meet(node, sums)) is not None:
                    above, left, right = met
                    found.append((left, right))
                    self._place(above, left)
        return found

    def _meet(self, node: Node, sums: Sums) -> tuple[Node, Sums, Sums] | None:
        """The node above with the sums of its left and right side; None if the other side is not there yet.

        Then this one waits for it.
        """
        level, index = node
        with self._lock:
            while level < len(self._widths) - 1 and index ^ 1 >= self._widths[level]:
                level, index = level + 1, index // 2
            self._place((level, index), sums)
            if (level, index ^ 1) not in self._waiting:
                return None
            sides = sorted([(level, index), (level, index ^ 1)])
            left, right = (self._waiting.pop(side) for side in sides)
        return (level + 1, index // 2), left, right

    def _place(self, node: Node, sums: Sums) -> None:
        if node in self._waiting:
            raise RuntimeError(f"node {node} came twice")
        self._waiting[node] = sums

    def nodes(self) -> dict[Node, Sums]:
        """The sums that have no sibling here: the whole sum, or what others have to complete."""
        return dict(self._waiting)

    def total(self) -> Sums:
        """The sum over all partitions."""
        root = (len(self._widths) - 1, 0)
        if set(self._waiting) != {root}:
            raise RuntimeError(f"the sum is not complete: {sorted(self._waiting)} of {self._widths[0]} partitions")
        return self._waiting[root]
