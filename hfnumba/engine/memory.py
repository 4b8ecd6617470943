"""Division of a host's memory among rows, samples of them, and primal passes."""

from __future__ import annotations

import logging
import math
import threading
import weakref
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.engine.protocol import Evaluation, Problem, Vectors
from hfnumba.engine.rows import RowSource
from hfnumba.errors import UsageError
from hfnumba.kernels import blocks
from hfnumba.network import Network
from hfnumba.processors import INTERPRETER_MEMORY, USABLE_SHARE, available_memory, mebibytes

_log = logging.getLogger(__name__)
# The shares of what a process has beside the interpreter that arrays take where no limit is given; the second for a
# split beside the one that is trained on.
_MEMORY_SHARE, _SECOND_SHARE = 0.6, 0.3
# The share of memory that rows may take where they do not fit; the rest is for samples and primal passes.
_ROWS_SHARE = 0.6
# Vectors of the length of theta beside the sums: theta, a direction, the two that may wait to be written again, and the
# directions among which a round ranks: with the usual five iterations seven at most.
_VECTORS = 4 + 7
# Points on a line that a round compares, each without the first layer's weights: the step lengths along negative
# curvature, and 0.
_POINTS = 17


@dataclass(frozen=True)
class HostMemory:
    """Memory of a host, which runs a problem, and perhaps that of another split.

    Parameters
    ----------
    problem : Problem
    n_threads : int
    limit : int or None
        Bytes of memory of the process; None for what the machine or the container has.
    """

    problem: Problem
    n_threads: int
    limit: int | None = None

    @property
    def _process(self) -> int:
        available = available_memory()
        return min(self.limit or available, available)

    @property
    def total(self) -> int:
        """Bytes for arrays: the limit that is given, or 60 % of what the process has beside the interpreter.

        At most 90 % of the latter; negative if there is less than the interpreter takes.
        """
        left = self._process - INTERPRETER_MEMORY
        return min(self.problem.memory or int(_MEMORY_SHARE * left), int(USABLE_SHARE * left))

    def plan(self, partitions: Collection[int], needed: int) -> MemoryPlan:
        """Divide the memory for the problem's own split, for rounds that need ``needed`` bytes.

        Raises
        ------
        UsageError
            If there is too little.
        """
        problem, n_threads = self.problem, self.n_threads
        divide = partial(plan_memory, n_threads=n_threads, partitions=partitions, needed=needed)
        share = self._share() if problem.cache_rows else None
        plan = None if share is None else divide(problem.network, problem.source, problem.dtype, share)
        if plan is None and (share is None or problem.memory is None):
            # Its rows are read in each round, with the room that reading those of its companion takes.
            plan = divide(problem.network, problem.source, problem.dtype, self.total)
            plan = plan and MemoryPlan(whole=False, rows=0, derived=0)
        if plan is None:
            raise self._refusal(needed)
        return plan

    def _share(self) -> int | None:
        """Return the bytes for the problem's own split; None if there are none to cache rows in."""
        network, source, companion = self.problem.network, self.problem.source, self.problem.companion
        if companion is None:
            return self.total
        if self.problem.memory is None:
            share = _SECOND_SHARE / (1 + len(companion.others))
            return self.total if companion.yields else int(share / _MEMORY_SHARE * self.total)
        if companion.yields:
            return divide_memory(network, source, companion.source, self.total, companion.others)[0]
        return divide_memory(network, companion.source, source, self.total, companion.others)[1]

    def _refusal(self, needed: int) -> UsageError:
        """Return the error that names what is needed and what there is."""
        least = least_memory(self.problem, self.n_threads, needed)
        what = f"rows, vectors and scratch on {self.n_threads} thread{'s' if self.n_threads > 1 else ''}"
        end = "fewer --threads, or build the store with more --partitions"
        if self.problem.memory == self.total:
            return UsageError(
                f"{self.total} bytes of memory are too few for {what}, which need {mebibytes(least)}; give --memory "
                f"{mebibytes(least)}, {end}"
            )
        share = USABLE_SHARE if self.problem.memory else _MEMORY_SHARE
        process = math.ceil(least / share) + INTERPRETER_MEMORY
        return UsageError(
            f"{mebibytes(self._process)} of memory for a process are too few for {what}, which need {mebibytes(least)} "
            f"beside {mebibytes(INTERPRETER_MEMORY)} for the interpreter and its libraries; give each process at least "
            f"{mebibytes(process)} (fewer workers on a machine, or a higher limit of the container, the job or Dask's "
            f"worker), {end}"
        )


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
        """Count the bytes of an array until it is deleted, unless that would exceed the limit."""
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


def divide_memory(
    network: Network, train: RowSource, test: RowSource, memory: int, others: Sequence[RowSource] = ()
) -> tuple[int, int | None]:
    """Bytes for the problems of two splits that share a memory; None if the second has none to cache rows in.

    ``others`` have as much a right to it as the second.
    """
    dtype = np.dtype(np.float32)
    sizes = [whole_nbytes(network, source, dtype) for source in (train, test, *others)]
    # The second only reads its rows: more would not be used, and so much has room for all, on any number of threads.
    enough = 2 * sizes[1] + reserved_nbytes(network, test, dtype, test.n_partitions)
    return (memory - sum(sizes[1:]), enough) if sum(sizes) <= _ROWS_SHARE * memory else (memory, None)


def least_memory(problem: Problem, n_threads: int, needed: int = 0) -> int:
    """Bytes that suffice for a problem and its companion on a host, whichever partitions it has."""
    network, dtype, companion = problem.network, problem.dtype, problem.companion
    sources = [problem.source] if companion is None else [problem.source, companion.source, *companion.others]
    least = max(_least(network, source, dtype, n_threads, needed) for source in sources)
    if companion is not None:
        first, second = sources[:2] if companion.yields else sources[1::-1]
        # Of so much memory the rows of the second and the others are taken off; what is left must do for the first.
        if divide_memory(network, first, second, least, companion.others)[1] is not None:
            least += sum(whole_nbytes(network, source, dtype) for source in (second, *companion.others))
    return least


def _least(network: Network, source: RowSource, dtype: np.dtype[Any], n_threads: int, needed: int) -> int:
    sizes = {j: expanded_nbytes(network, source, dtype, j) for j in range(source.n_partitions)}
    n_threads = min(n_threads, len(sizes))
    rows = min(_room(source, sizes, n_threads), math.ceil(sum(sizes.values()) / _ROWS_SHARE) + 1)
    return reserved_nbytes(network, source, dtype, n_threads, needed) + rows


def _room(source: RowSource, sizes: Mapping[int, int], n_threads: int) -> int:
    """Bytes for the partitions that threads work on, and for reading the next ones."""
    return n_threads * max(size + 2 * source.compact_nbytes(j) for j, size in sizes.items())


def plan_memory(
    network: Network,
    source: RowSource,
    dtype: np.dtype[Any],
    memory: int,
    *,
    n_threads: int,
    partitions: Collection[int],
    needed: int = 0,
) -> MemoryPlan | None:
    """Divide a host's memory; None if not even the room of the threads fits.

    What threads, sums and vectors take comes first: as :func:`reserved_nbytes` has it with ``needed``. Where the rows
    fit into 60 % of the rest all of them are cached. Otherwise each thread has room for the partition that it works on
    and for the next one with the buffers of reading it: rows + 2 compact partitions. What is left is for cached
    partitions, up to 60 %, and for samples and primal passes.
    """
    sizes = {j: expanded_nbytes(network, source, dtype, j) for j in partitions}
    total, n_threads = sum(sizes.values()), min(n_threads, len(sizes))
    rest = memory - reserved_nbytes(network, source, dtype, n_threads, needed)
    if total <= _ROWS_SHARE * rest:
        return MemoryPlan(True, total, rest - total)
    room = _room(source, sizes, n_threads)
    if room > rest:
        return None
    share = max(int(_ROWS_SHARE * rest), room)
    return MemoryPlan(False, share - room, rest - share)


def n_sums(source: RowSource, n_threads: int) -> int:
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
    scratch = n_threads * blocks.work_size(sizes, network.primal_width, blocks.block_rows(largest, n_params))
    vectors = n_sums(source, n_threads) + _VECTORS
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
    return needed + results * n_sums(problem.source, n_threads)


def whole_nbytes(network: Network, source: RowSource, dtype: np.dtype[Any]) -> int:
    """Bytes of all rows of a source as kernels take them."""
    return sum(expanded_nbytes(network, source, dtype, j) for j in range(source.n_partitions))


def expanded_nbytes(network: Network, source: RowSource, dtype: np.dtype[Any], j: int) -> int:
    """Bytes of partition j as kernels take it."""
    first, stop = source.partition_rows(j)
    feature = 1 if source.x_dtype == np.uint8 else dtype.itemsize
    target = 4 if network.takes_labels else 0 if source.autoencodes else network.n_outputs * dtype.itemsize
    weight = dtype.itemsize if source.weighted else 0
    return (stop - first) * (network.n_features * feature + target + weight)
