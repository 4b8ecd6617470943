"""Whoever holds partitions: this process, or a worker of a cluster. Both run this code.

A host keeps only what follows from the request: rows by partition number, vectors by names that are never reused,
primal passes by both. Nothing in it can be stale, and what is missing can be made again by any other host.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hfnumba.engine.rows import Rows, Source, as_rows, sample_indices
from hfnumba.engine.tree import Node, Sums, TreeSum
from hfnumba.kernels import activations, blas, blocks, losses, passes
from hfnumba.network import Network
from hfnumba.objective import RowSample

_log = logging.getLogger(__name__)
# The curvature samples of the current and the next iteration.
_KEPT_SAMPLES = 2
# Rounds for which a host keeps rows that it is not asked about: they may come back from a worker that was restarted.
_KEPT_ROUNDS = 64
# The share of memory that kept primal passes may take before they are recomputed instead.
_PRIMAL_SHARE = 0.4


@dataclass(frozen=True)
class Job:
    """What a host needs to know once: the network, where its rows are, and the dtype it computes in."""

    id: str
    network: Network
    source: Source
    dtype: np.dtype[Any]


def default_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class Evaluation(Protocol):
    """A function over a partition whose results are summed over the partitions.

    A pure function of its fields, the vectors it names, and the partition: whoever computes it, whenever, gets the
    same bits. ``vectors`` are the names it needs; ``prepare`` is called once a round, and its result handed to every
    call on a partition.
    """

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of the vectors it reads."""
        ...

    def prepare(self, host: PartitionHost) -> Any:
        """What the partitions share."""
        ...

    def __call__(self, host: PartitionHost, j: int, shared: Any) -> Sums:
        """The sums over partition j."""
        ...


class PartitionHost:
    """Evaluates a job's partitions on some threads.

    Parameters
    ----------
    job : Job
    n_threads : int
        Threads; the results do not depend on it.
    memory : int, optional
        Bytes this host may use; kept primal passes take 40 % of it at most.
    """

    def __init__(self, job: Job, n_threads: int, memory: int | None = None) -> None:
        blas.limit_blas_threads()
        self.job = job
        self.n_threads = n_threads
        network, self.dtype = job.network, job.dtype
        self.code = (
            np.array(network.sizes, np.int64),
            activations.ACTIVATION_CODES[network.activation],
            losses.LOSS_CODES[network.loss],
        )
        self.scale, self.offset = self.dtype.type(job.source.scale), self.dtype.type(job.source.offset)
        self.vectors: dict[str, NDArray[Any]] = {}
        self._partitions: dict[int, Rows] = {}
        self._samples: dict[RowSample, dict[int, Rows]] = {}
        self._primals: dict[tuple[str, RowSample | None, int], NDArray[Any]] = {}
        self._n_rounds, self._last_used = 0, dict[int, int]()
        self._budget = int(_PRIMAL_SHARE * (memory or default_memory()))
        self._thread = threading.local()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(n_threads - 1, "hfnumba") if n_threads > 1 else None

    def receive(self, vectors: Mapping[str, NDArray[Any]], live: Sequence[str]) -> list[str]:
        """Take vectors, forget those that are not ``live``, and name the live ones that are missing."""
        for name, vector in vectors.items():
            # A vector off the network may be read-only, which is another type to a compiled kernel.
            self.vectors[name] = np.require(vector, self.dtype, ["C", "W"])
        alive = set(live)
        self.vectors = {name: vector for name, vector in self.vectors.items() if name in alive}
        self._primals = {key: kept for key, kept in self._primals.items() if key[0] in alive}
        return sorted(alive - set(self.vectors))

    def evaluate(self, evaluations: Sequence[Evaluation], partitions: Sequence[int]) -> dict[Node, Sums]:
        """The sums over the partitions, as few nodes of the tree as they make."""
        self._forget_unused(partitions)
        tree = TreeSum(self.job.source.n_partitions)
        shared = [evaluation.prepare(self) for evaluation in evaluations]

        def work(j: int) -> None:
            parts = (evaluation(self, j, common) for evaluation, common in zip(evaluations, shared, strict=True))
            tree.add((0, j), tuple(itertools.chain.from_iterable(parts)))

        self.spread(work, partitions)
        return tree.nodes()

    def _forget_unused(self, partitions: Sequence[int]) -> None:
        """Drop the rows of partitions that others have taken over since."""
        self._n_rounds += 1
        self._last_used |= dict.fromkeys(partitions, self._n_rounds)
        for j in [j for j in self._partitions if self._last_used[j] < self._n_rounds - _KEPT_ROUNDS]:
            del self._partitions[j]
            for drawn in self._samples.values():
                drawn.pop(j, None)
            self._primals = {key: kept for key, kept in self._primals.items() if key[2] != j}

    def spread(self, work: Callable[[int], None], partitions: Sequence[int]) -> None:
        """Call ``work`` on every partition, on all threads; this one takes part, which saves a change of threads.

        Each thread has a contiguous run, so that it adds its own subtrees; one that is done helps the others.
        """
        n_threads = min(self.n_threads, len(partitions))
        cuts = [i * len(partitions) // n_threads for i in range(n_threads + 1)]
        runs = [deque(partitions[start:stop]) for start, stop in itertools.pairwise(cuts)]

        def drain(own: deque[int]) -> None:
            while True:
                with self._lock:
                    longest = max(runs, key=len)
                    if not longest:
                        return
                    j = own.popleft() if own else longest.pop()
                work(j)

        helpers = [self._pool.submit(drain, run) for run in runs[1:]] if self._pool is not None else []
        try:
            drain(runs[0])
        finally:
            wait(helpers)
        for helper in helpers:
            helper.result()

    def rows(self, j: int, sample: RowSample | None) -> Rows:
        """The rows of partition j, or of a sample of it."""
        rows = self._partitions.get(j)
        if rows is None:
            X, y = self.job.source.load(j)
            rows = self._partitions.setdefault(j, as_rows(self.job.network, X, y, self.dtype))
        if sample is None:
            return rows
        with self._lock:
            drawn = self._samples.setdefault(sample, {})
            while len(self._samples) > _KEPT_SAMPLES:
                del self._samples[next(iter(self._samples))]
        if j not in drawn:
            source = self.job.source
            drawn[j] = rows.take(sample_indices(sample, *source.partition_rows(j), source.n_rows))
        return drawn[j]

    def arguments(self, rows: Rows) -> tuple[Any, ...]:
        """What every pass takes after theta: codes, rows, scaling, block size and this thread's scratch."""
        network = self.job.network
        block = blocks.block_rows(len(rows.X), network.n_params)
        size = blocks.work_size(network.sizes, block)
        work = getattr(self._thread, "work", None)
        if work is None or work.size < size:
            work = self._thread.work = np.empty(size, self.dtype)
        return (*self.code, rows.X, rows.labels, rows.targets, self.scale, self.offset, block, work)

    def keeps_primal(self, sample: RowSample | None) -> bool:
        """Whether the primal pass of a sample fits into this host's share of memory, had it all partitions."""
        n_rows = self.job.source.n_rows if sample is None else sample.n_rows
        estimate = n_rows * 2 * sum(self.job.network.sizes[1:]) * self.dtype.itemsize
        if estimate > self._budget:
            _log.info(
                "the primal pass (%d bytes) exceeds %d; it is recomputed for each product",
                estimate,
                self._budget,
            )
        return estimate <= self._budget

    def empty_primal(self, j: int, sample: RowSample | None) -> NDArray[Any]:
        """An array for a pass to write partition j's primal pass into; empty if it would not fit."""
        if not self.keeps_primal(sample):
            return np.empty(0, self.dtype)
        return np.empty(len(self.rows(j, sample).X) * 2 * sum(self.job.network.sizes[1:]), self.dtype)

    def keep_primal(self, theta: str, j: int, sample: RowSample | None, kept: NDArray[Any]) -> None:
        """Hold a primal pass that is complete, until theta is forgotten."""
        if kept.size:
            self._primals[theta, sample, j] = kept

    def primal(self, theta: str, j: int, sample: RowSample | None) -> NDArray[Any]:
        """The primal pass of partition j at theta, computed if it is not there; empty if it would not fit."""
        kept = self._primals.get((theta, sample, j))
        if kept is None:
            kept = self.empty_primal(j, sample)
            if kept.size:
                arguments = self.arguments(self.rows(j, sample))
                passes.gradient_pass(self.vectors[theta], *arguments, kept, np.empty(0, self.dtype))
                self.keep_primal(theta, j, sample, kept)
        return kept

    def close(self) -> None:
        """Stop the threads."""
        if self._pool is not None:
            self._pool.shutdown()
