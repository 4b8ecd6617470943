"""How the memory of a host is divided among rows, samples of them, and primal passes."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.engine.protocol import Evaluation, Problem, Vectors
from hfnumba.engine.rows import RowSource
from hfnumba.errors import UsageError
from hfnumba.kernels import blocks
from hfnumba.network import Network

_log = logging.getLogger(__name__)
# The share of a machine's memory that is used where no limit is given.
_MEMORY_SHARE = 0.6
# The share of memory that rows may take where they do not fit; the rest is for samples and primal passes.
_ROWS_SHARE = 0.6
# Vectors of the length of theta beside the sums: theta, a direction, the two that may wait to be written again, and the
# directions among which a round ranks: with the usual five iterations seven at most.
_VECTORS = 4 + 7
# Points on a line that a round compares, each without the first layer's weights: the step lengths along negative
# curvature, and 0.
_POINTS = 17


def machine_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def host_memory(problem: Problem, limit: int | None) -> int:
    """Bytes that a host may use: the problem's limit, or 60 % of the host's ``limit`` or of the machine's memory."""
    return problem.memory or int(_MEMORY_SHARE * (limit or machine_memory()))


class Budget:
    """Bytes, counted against a limit; thread-safe."""

    def __init__(self, limit: int = 0) -> None:
        # What is dropped while the lock is taken may be given back in the same thread.
        self.limit, self._taken, self._lock = limit, 0, threading.RLock()

    @property
    def is_exceeded(self) -> bool:
        """Whether more is taken than the limit, which was lowered since."""
        return self._taken > self.limit

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

    def take_for(self, array: NDArray[Any]) -> bool:
        """Count the bytes of an array as long as it lives, unless that would exceed the limit."""
        fits = self.take(array.nbytes)
        if fits:
            weakref.finalize(array, self.give, array.nbytes).atexit = False
        return fits


@dataclass(frozen=True)
class MemoryPlan:
    """Shares of a host's memory.

    Attributes
    ----------
    whole : bool
        Whether all partitions are cached as kernels take them.
    rows : int
        Bytes for cached partitions.
    derived : int
        Bytes for samples and primal passes.
    """

    whole: bool
    rows: int
    derived: int


class RecomputationNote:
    """Warns once if primal passes are computed again with each product."""

    def __init__(self) -> None:
        self._is_given = False

    def check(self, n_recomputed: int, n_partitions: int) -> None:
        """Warn if any were computed again, the first time."""
        if n_recomputed and not self._is_given:
            self._is_given = True
            _log.warning(
                "too little memory to store activations and deltas: those of %d of %d partitions are computed again "
                "for each product; more memory (--memory) or a smaller curvature sample (--curvature-rows) is faster",
                *(n_recomputed, n_partitions),
            )


def divide_memory(network: Network, train: RowSource, test: RowSource, memory: int) -> tuple[int, int | None]:
    """Bytes for the problems of two splits that share a memory; None if the second has none to cache rows in."""
    dtype = np.dtype(np.float32)
    sizes = [
        sum(expanded_nbytes(network, source, dtype, j) for j in range(source.n_partitions)) for source in (train, test)
    ]
    # The second only reads its rows: more would not be used, and so much has room for all, on any number of threads.
    enough = 2 * sizes[1] + reserved_nbytes(network, test, dtype, test.n_partitions)
    return (memory - sizes[1], enough) if sum(sizes) <= _ROWS_SHARE * memory else (memory, None)


def plan_memory(
    network: Network,
    source: RowSource,
    dtype: np.dtype[Any],
    memory: int,
    *,
    n_threads: int,
    partitions: Collection[int],
    needed: int = 0,
) -> MemoryPlan:
    """Divide a host's memory.

    What threads, sums and vectors take comes first: as :func:`reserved_nbytes` has it with ``needed``. Where the rows
    fit into 60 % of the rest all of them are cached. Otherwise each thread has room for the partition that it works on
    and for the next one with the buffers of reading it: rows + 2 compact partitions. What is left is for cached
    partitions, up to 60 %, and for samples and primal passes.

    Raises
    ------
    UsageError
        If not even the room of the threads fits.
    """
    sizes = {j: expanded_nbytes(network, source, dtype, j) for j in partitions}
    total, n_threads = sum(sizes.values()), min(n_threads, len(sizes))
    taken = reserved_nbytes(network, source, dtype, n_threads, needed)
    rest = memory - taken
    if total <= _ROWS_SHARE * rest:
        return MemoryPlan(True, total, rest - total)
    largest = max(size + 2 * source.compact_nbytes(j) for j, size in sizes.items())
    room = n_threads * largest
    if room > rest:
        raise UsageError(
            f"{memory} bytes of memory are too few for partitions of {max(sizes.values())} bytes on {n_threads} "
            f"threads, and {taken} bytes of vectors and scratch; give --memory {-(-(room + taken) // 2**20)}MiB, fewer "
            "--threads, or build the store with more --partitions"
        )
    share = max(int(_ROWS_SHARE * rest), room)
    return MemoryPlan(False, share - room, rest - share)


def _n_sums(source: RowSource, n_threads: int) -> int:
    """Sums that are alive at a time: one a thread, and one a level of the tree."""
    return n_threads + (source.n_partitions - 1).bit_length()


def reserved_nbytes(
    network: Network, source: RowSource, dtype: np.dtype[Any], n_threads: int, needed: int = 0
) -> int:  # fmt: skip
    """Bytes that a host takes beside rows and what is derived from them.

    Scratch memory of the passes, and what the rounds of an iteration need: sums, vectors and points on a line, or
    ``needed`` (of :func:`round_nbytes`) if that is more.
    """
    sizes, n_params = network.sizes, network.n_params
    largest = max(stop - first for first, stop in map(source.partition_rows, range(source.n_partitions)))
    scratch = n_threads * blocks.work_size(sizes, blocks.block_rows(largest, n_params))
    vectors = _n_sums(source, n_threads) + _VECTORS
    arrays = vectors * n_params + _POINTS * (n_params - sizes[0] * sizes[1])
    return scratch * dtype.itemsize + max(arrays * dtype.itemsize, needed)


def round_nbytes(problem: Problem, evaluations: Sequence[Evaluation], vectors: Vectors, n_threads: int) -> int:
    """Bytes that a round takes on a host beside rows and scratch: vectors, sums, and what its evaluations need."""
    needed, results = 0, 0
    for one in evaluations:
        needed += one.nbytes(problem, vectors)
        for result in one.results(problem, vectors).values():
            results += result.nbytes
    for vector in vectors.values():
        needed += vector.nbytes
    return needed + results * _n_sums(problem.source, n_threads)


def expanded_nbytes(network: Network, source: RowSource, dtype: np.dtype[Any], j: int) -> int:
    """Bytes of partition j as kernels take it."""
    first, stop = source.partition_rows(j)
    feature = 1 if source.x_dtype == np.uint8 else dtype.itemsize
    target = 4 if network.takes_labels else network.n_outputs * dtype.itemsize
    weight = dtype.itemsize if source.weighted else 0
    return (stop - first) * (network.n_features * feature + target + weight)
