"""The rows a host holds: all of its partitions where they fit into its memory; else some, and the others in passing.

A round goes through the partitions in one order, again and again. Throwing out what was used longest ago would throw
out each partition just before its turn. So the first partitions that fit stay, and the others are read whenever
their turn comes, the next one while the present one is computed. What is read again is verified again and has the
same bits; so the results do not depend on the memory.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.engine.rows import Rows, Source, as_rows
from hfnumba.errors import UsageError
from hfnumba.kernels import blocks
from hfnumba.network import Network
from hfnumba.processors import run_anywhere

# The share of memory that rows may take where they do not fit; the rest is for samples and primal passes.
_ROWS_SHARE = 0.6
_READERS = 2
# Vectors of the length of theta beside the sums: theta, a direction, the two that may wait to be written again, and the
# directions among which a round ranks: with the usual five iterations seven at most.
_VECTORS = 4 + 7
# Points on a line that a round compares, each without the first layer's weights.
_POINTS = 16

Compact = Mapping[str, NDArray[Any]]


def nbytes(arrays: Mapping[str, NDArray[Any]] | Rows) -> int:
    """Bytes of some arrays."""
    return sum(array.nbytes for array in (arrays if isinstance(arrays, Rows) else arrays.values()))


class Budget:
    """Bytes, counted against a limit; thread-safe."""

    def __init__(self, limit: int = 0) -> None:
        # What is dropped while the lock is held may be given back in the same thread.
        self.limit, self._taken, self._lock = limit, 0, threading.RLock()

    def take(self, n: int) -> bool:
        """Count n bytes, unless that would exceed the limit."""
        with self._lock:
            fits = self._taken + n <= self.limit
            self._taken += n if fits else 0
            return fits

    def give(self, n: int) -> None:
        """Count n bytes back."""
        with self._lock:
            self._taken -= n

    def hold(self, array: NDArray[Any]) -> bool:
        """Count the bytes of an array until it is gone, unless that would exceed the limit."""
        fits = self.take(array.nbytes)
        if fits:
            weakref.finalize(array, self.give, array.nbytes).atexit = False
        return fits


@dataclass(frozen=True)
class Plan:
    """How the memory of a host is used.

    Attributes
    ----------
    whole : bool
        Whether all partitions are held as kernels take them.
    rows : int
        Bytes for partitions that stay.
    derived : int
        Bytes for samples and primal passes.
    """

    whole: bool
    rows: int
    derived: int


def divided(network: Network, train: Source, test: Source, memory: int) -> tuple[int, int | None]:
    """Bytes for the jobs of two splits that share a memory; None if there is none for the second to keep rows in."""
    kind = np.dtype(np.float32)
    sizes = [
        sum(expanded_nbytes(network, source, kind, j) for j in range(source.n_partitions)) for source in (train, test)
    ]
    # The second only reads its rows: more would not be used, and so much holds them all, on any number of threads.
    enough = 2 * sizes[1] + beside(network, test, kind, test.n_partitions)
    return (memory - sizes[1], enough) if sum(sizes) <= _ROWS_SHARE * memory else (memory, None)


def plan(
    network: Network, source: Source, dtype: np.dtype[Any], memory: int, *, n_threads: int, partitions: Collection[int]
) -> Plan:
    """Divide a host's memory.

    What threads, sums and vectors take comes first. Where the rows fit into 60 % of the rest they all stay. Else each
    thread has room for the partition that it works on and for the next one with the buffers of reading it: rows + 2
    compact partitions. What is left is for partitions that stay, up to 60 %, and for samples and primal passes.

    Raises
    ------
    UsageError
        If not even the room of the threads fits.
    """
    sizes = {j: expanded_nbytes(network, source, dtype, j) for j in partitions}
    total, n_threads = sum(sizes.values()), min(n_threads, len(sizes))
    taken = beside(network, source, dtype, n_threads)
    rest = memory - taken
    if total <= _ROWS_SHARE * rest:
        return Plan(True, total, rest - total)
    largest = max(size + 2 * source.compact_nbytes(j) for j, size in sizes.items())
    room = n_threads * largest
    if room > rest:
        raise UsageError(
            f"{memory} bytes of memory are too few for partitions of {max(sizes.values())} bytes on {n_threads} "
            f"threads, and {taken} bytes of vectors and scratch; give --memory {-(-(room + taken) // 2**20)}MiB, fewer "
            "--threads, or build the store with more --partitions"
        )
    share = max(int(_ROWS_SHARE * rest), room)
    return Plan(False, share - room, rest - share)


def beside(network: Network, source: Source, dtype: np.dtype[Any], n_threads: int) -> int:
    """Bytes that a host takes whatever rows it holds: scratch, sums on their way up the tree, vectors, and points."""
    sizes, n_params = network.sizes, network.n_params
    largest = max(stop - first for first, stop in map(source.partition_rows, range(source.n_partitions)))
    scratch = n_threads * blocks.work_size(sizes, blocks.block_rows(largest, n_params))
    vectors = n_threads + (source.n_partitions - 1).bit_length() + _VECTORS
    return (scratch + vectors * n_params + _POINTS * (n_params - sizes[0] * sizes[1])) * dtype.itemsize


class HeldRows:
    """Partitions of a source, read when they are needed.

    Parameters
    ----------
    network, source, dtype
        As in a job.
    """

    def __init__(self, network: Network, source: Source, dtype: np.dtype[Any]) -> None:
        self._network, self._source, self._dtype = network, source, dtype
        self._held: dict[int, Rows | Compact] = {}
        self._coming: dict[int, Future[Compact]] = {}
        self._lock = threading.Lock()
        self._whole, self._budget = True, Budget()
        self._readers: ThreadPoolExecutor | None = None

    def follow(self, chosen: Plan) -> None:
        """Keep to a plan from now on."""
        if chosen.whole != self._whole:
            self._held.clear()
            self._budget = Budget()
        self._whole, self._budget.limit = chosen.whole, chosen.rows

    def get(self, j: int) -> Rows:
        """The rows of partition j. The caller holds them; they may not stay here."""
        held = self._held.get(j)
        if isinstance(held, Rows):
            return held
        compact = held if held is not None else self._read(j)
        rows = as_rows(self._network, *self._source.expand(compact), self._dtype, compact.get("weights"))
        if self._whole:
            return self._held.setdefault(j, rows)  # type: ignore[return-value]  # whole: Rows only
        return rows

    def prefetch(self, j: int) -> None:
        """Begin to read partition j, if it is not here."""
        if self._whole or j in self._held:
            return
        with self._lock:
            if j not in self._coming:
                self._readers = self._readers or ThreadPoolExecutor(_READERS, "hfnumba-read", run_anywhere)
                self._coming[j] = self._readers.submit(self._source.load_compact, j)

    def end_round(self) -> None:
        """Drop what was read ahead and not used, because the round ended early."""
        with self._lock:
            coming, self._coming = self._coming, {}
        for future in coming.values():
            future.cancel()

    def forget(self, j: int) -> None:
        """Let go of partition j."""
        held = self._held.pop(j, None)
        if held is not None and not self._whole:
            self._budget.give(nbytes(held))

    def close(self) -> None:
        """Stop reading, and let go of all."""
        self.end_round()
        self._held.clear()
        if self._readers is not None:
            self._readers.shutdown()

    def _read(self, j: int) -> Compact:
        with self._lock:
            future = self._coming.pop(j, None)
        # What has not been begun is read here: it would only wait for its turn.
        compact = self._source.load_compact(j) if future is None or future.cancel() else future.result()
        if not self._whole and self._budget.take(nbytes(compact)):
            self._held[j] = compact
        return compact


def expanded_nbytes(network: Network, source: Source, dtype: np.dtype[Any], j: int) -> int:
    """Bytes of partition j as kernels take it."""
    first, stop = source.partition_rows(j)
    feature = 1 if source.x_dtype == np.uint8 else dtype.itemsize
    target = 4 if network.takes_labels else network.n_outputs * dtype.itemsize
    weight = dtype.itemsize if source.weighted else 0
    return (stop - first) * (network.n_features * feature + target + weight)
