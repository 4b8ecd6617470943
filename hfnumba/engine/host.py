"""Evaluates partitions; used both in-process and on cluster workers.

A host has only what follows from the rounds it is asked for: rows by partition number, vectors by names that are never
reused, primal passes by both. Nothing in it can be stale, and what is missing can be computed again by any other host.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.engine.buffers import Buffers
from hfnumba.engine.memory import Budget, HostMemory, n_sums, round_nbytes
from hfnumba.engine.protocol import Evaluation, Problem
from hfnumba.engine.row_cache import RowCache, nbytes
from hfnumba.engine.rows import RowArrays, sample_indices
from hfnumba.engine.tree import Divisors, Node, Sums, TreeSum, finish
from hfnumba.kernels import arguments, blas, blocks, passes
from hfnumba.objective import RowSample
from hfnumba.processors import mebibytes
from hfnumba.threads import Team

_log = logging.getLogger(__name__)
# Samples that stay in memory: the curvature samples of the current and the next iteration.
_N_SAMPLES = 2
# Rounds for which rows stay that a host is not asked about: they may come back from a worker that was restarted.
_N_IDLE_ROUNDS = 64
# Adding fewer numbers takes less time than handing them to another thread.
_SHARED_ELEMENTS = 1 << 15


class PartitionHost:
    """Evaluates a problem's partitions on some threads.

    Parameters
    ----------
    problem : Problem
    n_threads : int
        Number of threads; the results do not depend on it.
    memory : int, optional
        Bytes of memory of this process; by default what the machine or the container has.

    Attributes
    ----------
    vectors : dict of str to ndarray
        The vectors that are live, by name.
    n_done, n_recomputed : int
        Partitions of the current or last round that are computed, and those of them whose primal pass was computed
        again, because there is no memory to store it.
    """

    def __init__(self, problem: Problem, n_threads: int, memory: int | None = None) -> None:
        blas.limit_blas_threads()
        # A thread computes one partition at a time, so that more threads than partitions would have nothing to do.
        n_threads = min(n_threads, problem.source.n_partitions)
        self.problem, self.n_threads, self.dtype = problem, n_threads, problem.dtype
        network, source = problem.network, problem.source
        self._layers = arguments.layers(network.sizes, network.activations, network.loss)
        self._scale, self._offset = self.dtype.type(source.scale), self.dtype.type(source.offset)
        self.vectors: dict[str, NDArray[Any]] = {}
        self.n_done = self.n_recomputed = 0
        self._cache = RowCache(network, source, problem.dtype)
        self._samples: dict[RowSample, dict[int, RowArrays]] = {}
        self._primals: dict[tuple[str, RowSample | None, int], NDArray[Any]] = {}
        self._n_rounds, self._last_used = 0, dict[int, int]()
        self._planned: tuple[int, set[int]] = (0, set())
        self._memory = HostMemory(problem, n_threads, memory)
        self._derived, self._buffers = Budget(), Buffers(self.dtype, n_sums(source, n_threads))
        self._thread = threading.local()
        self._lock = threading.Lock()
        self._team = Team(n_threads)

    def receive(self, vectors: Mapping[str, NDArray[Any]], live: Sequence[str]) -> list[str]:
        """Take vectors, drop those that are not ``live``, and return the names of live ones that are missing."""
        for name, vector in vectors.items():
            if self.vectors.get(name) is not vector or not vector.flags.writeable:
                # A vector off the network may be read-only, which is another type to a compiled kernel.
                self.vectors[name] = np.require(vector, self.dtype, ["C", "W"])
        alive = set(live)
        # A primal pass belongs to one of these vectors.
        if self.vectors.keys() - alive:
            self.vectors = {name: vector for name, vector in self.vectors.items() if name in alive}
            self._primals = {key: primal for key, primal in self._primals.items() if key[0] in alive}
        return sorted(alive - set(self.vectors))

    def evaluate(
        self, evaluations: Sequence[Evaluation], partitions: Sequence[int], divisors: Divisors = ()
    ) -> dict[Node, Sums]:
        """Sums over the partitions, as few nodes of the tree as they make; divided, if they are all partitions."""
        self._drop_unused(partitions)
        self._follow_plan(evaluations)
        self.n_done = self.n_recomputed = 0
        tree = TreeSum(self.problem.source.n_partitions, self._buffers.give)
        pairs = [(evaluation, evaluation.prepare(self)) for evaluation in evaluations]
        samples = {evaluation.rows for evaluation in evaluations}

        def work(j: int, following: int | None) -> None:
            try:
                # One after the other: a thread has room for the buffers of one read.
                if self._needs_rows(j, samples):
                    self.rows(j, None)
                if following is not None and self._needs_rows(following, samples):
                    self._cache.prefetch(following)
                sums = tuple([array for evaluation, shared in pairs for array in evaluation(self, j, shared)])
                with self._lock:
                    self.n_done += 1
                    is_last = self.n_done == len(partitions)
                # What the last one completes is added by all threads: the others have nothing else to do.
                (tree.put if is_last else tree.add)((0, j), sums)
            finally:
                self._thread.rows = {}

        try:
            self._team.spread(work, partitions)
        finally:
            self._cache.end_round()
        self._finish(tree, divisors)
        return tree.nodes()

    def _finish(self, tree: TreeSum, divisors: Divisors) -> None:
        """Add what is left of a sum and divide it, each thread its share of the elements."""
        pairs = tree.pairs()
        whole = tree.total() if divisors else next(iter(tree.nodes().values()))
        if not pairs and not divisors:
            return
        n_threads = self.n_threads if max(array.size for array in whole) >= _SHARED_ELEMENTS else 1
        self._team.run([partial(finish, pairs, whole, divisors, i, n_threads) for i in range(n_threads)])
        for _, right in pairs:
            self._buffers.give(right)

    def output(self, n: int, n_rows: int) -> NDArray[Any]:
        """Return an array of n numbers for a pass over rows to write; zeros for no rows, as it then writes nothing."""
        out = self._buffers.take(n)
        if n_rows == 0:
            out[:] = 0
        return out

    def _follow_plan(self, evaluations: Sequence[Evaluation]) -> None:
        """Divide the memory among rows and what is derived from them, for the partitions asked about so far.

        Only where a round asks about other partitions, or needs more memory beside the rows than those before.
        """
        problem, asked = self.problem, self._last_used.keys()
        needed = round_nbytes(problem, evaluations, self.vectors, min(self.n_threads, len(asked)))
        most_needed, planned = self._planned
        if asked == planned and needed <= most_needed:
            return
        most_needed = max(most_needed, needed)
        plan = self._memory.plan(asked, most_needed)
        self._cache.follow(plan)
        self._derived.limit = plan.derived
        self._planned = (most_needed, set(asked))
        _log.info(
            "memory of %d partitions: %s for rows, which %s; %s for samples and primal passes",
            *(len(asked), mebibytes(plan.rows), "all stay" if plan.whole else "are read again where they do not fit"),
            mebibytes(plan.derived),
        )

    def _drop_unused(self, partitions: Sequence[int]) -> None:
        """Drop the rows of partitions that others have taken over since."""
        self._n_rounds += 1
        self._last_used |= dict.fromkeys(partitions, self._n_rounds)
        for j in [j for j, used in self._last_used.items() if used < self._n_rounds - _N_IDLE_ROUNDS]:
            del self._last_used[j]
            self._cache.drop(j)
            for drawn in self._samples.values():
                if j in drawn:
                    self._derived.give(nbytes(drawn.pop(j)))
            self._primals = {key: primal for key, primal in self._primals.items() if key[2] != j}

    def rows(self, j: int, sample: RowSample | None) -> RowArrays:
        """Return the rows of partition j, or of a sample of it."""
        mine: dict[RowSample | None, RowArrays] = self._thread.__dict__.setdefault("rows", {})
        rows = mine.get(sample)
        if rows is None:
            rows = mine[sample] = self._cache.get(j) if sample is None else self._sampled(j, sample)
        return rows

    def _sampled(self, j: int, sample: RowSample) -> RowArrays:
        drawn, source = self._drawn(sample), self.problem.source
        rows = drawn.get(j)
        if rows is None:
            rows = self.rows(j, None).take(sample_indices(sample, *source.partition_rows(j), source.n_rows))
            if self._derived.take(nbytes(rows)):
                drawn[j] = rows
        return rows

    def _drawn(self, sample: RowSample) -> dict[int, RowArrays]:
        """Return what is in memory of a sample; the oldest samples make room for a new one."""
        with self._lock:
            drawn = self._samples.setdefault(sample, {})
            while len(self._samples) > _N_SAMPLES:
                for rows in self._samples.pop(next(iter(self._samples))).values():
                    self._derived.give(nbytes(rows))
        return drawn

    def _needs_rows(self, j: int, samples: Collection[RowSample | None]) -> bool:
        """Whether evaluations on some samples will read partition j."""
        return None in samples or any(j not in self._samples.get(sample, ()) for sample in samples if sample)

    def arguments(self, rows: RowArrays) -> tuple[Any, Any]:
        """What every pass takes after theta; see :mod:`hfnumba.kernels.arguments`."""
        network = self.problem.network
        block = blocks.block_rows(len(rows.X), network.n_params)
        size = blocks.work_size(network.sizes, network.primal_width, block)
        work = getattr(self._thread, "work", None)
        if work is None or work.size < size:
            work = self._thread.work = np.empty(size, self.dtype)
        X, scale, offset = blocks.as_bytes(rows.X), self._scale, self._offset
        return self._layers, (X, rows.labels, rows.targets, rows.weights, scale, offset, block, work)

    def new_primal(self, j: int, sample: RowSample | None) -> NDArray[Any]:
        """Return an array for partition j's primal pass; an empty one if there is no memory to store it."""
        primal = np.empty(len(self.rows(j, sample).X) * self.problem.network.primal_width, self.dtype)
        return primal if self._derived.take_for(primal) else np.empty(0, self.dtype)

    def store_primal(self, theta: str, j: int, sample: RowSample | None, primal: NDArray[Any]) -> None:
        """Store a primal pass that is complete until theta is dropped; nothing if the array is empty."""
        if primal.size:
            self._primals[theta, sample, j] = primal

    def primal(self, theta: str, j: int, sample: RowSample | None) -> NDArray[Any]:
        """Return the primal pass of partition j at theta, computed and stored if it is missing.

        An empty one, if there is no memory to store it, makes kernels compute it again, block by block.
        """
        primal = self._primals.get((theta, sample, j))
        if primal is None:
            primal = self.new_primal(j, sample)
            if primal.size:
                arguments = self.arguments(self.rows(j, sample))
                passes.gradient_pass(self.vectors[theta], *arguments, primal, np.empty(0, self.dtype))
                self.store_primal(theta, j, sample, primal)
            elif self._derived.limit and len(self.rows(j, sample).X):
                with self._lock:
                    self.n_recomputed += 1
        return primal

    def close(self) -> None:
        """Stop the threads and drop the rows."""
        self._team.close()
        self._cache.close()
