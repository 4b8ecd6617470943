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
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hfnumba.engine.row_cache import Budget, HeldRows, Plan, nbytes, plan
from hfnumba.engine.rows import Rows, Source, sample_indices
from hfnumba.engine.threads import Team
from hfnumba.engine.tree import Divisors, Node, Shape, Sums, TreeSum, finish
from hfnumba.kernels import activations, blas, blocks, losses, passes
from hfnumba.network import Network
from hfnumba.objective import RowSample

_log = logging.getLogger(__name__)
# The curvature samples of the current and the next iteration.
_KEPT_SAMPLES = 2
# Rounds for which a host keeps rows that it is not asked about: they may come back from a worker that was restarted.
_KEPT_ROUNDS = 64
# Adding fewer numbers takes less time than telling another thread of it.
_SHARED_ELEMENTS = 1 << 15
# The share of a machine's memory that is used where nobody says how much.
_MEMORY_SHARE = 0.6


@dataclass(frozen=True)
class Job:
    """What a host needs to know once: the network, where its rows are, and the dtype it computes in.

    ``memory`` is the bytes for rows, samples and primal passes on each host; None for 60 % of what the host has.
    With ``keep`` false nothing stays between rounds: another job of the same host has the memory.
    """

    id: str
    network: Network
    source: Source
    dtype: np.dtype[Any]
    memory: int | None = None
    keep: bool = True


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

    @property
    def rows(self) -> RowSample | None:
        """The sample it reads; None for all rows."""
        ...

    def results(self, job: Job, vectors: Mapping[str, NDArray[Any]]) -> tuple[Shape, ...]:
        """Shapes and dtypes of the sums, by which an answer is checked."""
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
        Bytes of memory of this host, if the job does not say how much of them to use.
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
        # Partitions of the round under way, or of the last one, that are computed.
        self.n_done = 0
        self._held = HeldRows(network, job.source, job.dtype)
        self._samples: dict[RowSample, dict[int, Rows]] = {}
        self._primals: dict[tuple[str, RowSample | None, int], NDArray[Any]] = {}
        self._n_rounds, self._last_used = 0, dict[int, int]()
        self._planned: set[int] = set()
        self._memory = job.memory or int(_MEMORY_SHARE * (memory or default_memory()))
        self._derived = Budget()
        self._thread = threading.local()
        self._lock = threading.Lock()
        self._team = Team(n_threads)

    def receive(self, vectors: Mapping[str, NDArray[Any]], live: Sequence[str]) -> list[str]:
        """Take vectors, forget those that are not ``live``, and name the live ones that are missing."""
        for name, vector in vectors.items():
            # A vector off the network may be read-only, which is another type to a compiled kernel.
            self.vectors[name] = np.require(vector, self.dtype, ["C", "W"])
        alive = set(live)
        self.vectors = {name: vector for name, vector in self.vectors.items() if name in alive}
        self._primals = {key: kept for key, kept in self._primals.items() if key[0] in alive}
        return sorted(alive - set(self.vectors))

    def evaluate(
        self, evaluations: Sequence[Evaluation], partitions: Sequence[int], divisors: Divisors = ()
    ) -> dict[Node, Sums]:
        """The sums over the partitions, as few nodes of the tree as they make; divided, if they are all partitions."""
        self._forget_unused(partitions)
        self._follow_plan()
        self.n_done, tree = 0, TreeSum(self.job.source.n_partitions)
        shared = [evaluation.prepare(self) for evaluation in evaluations]
        samples = {evaluation.rows for evaluation in evaluations}

        def work(j: int, following: int | None) -> None:
            try:
                # One after the other: a thread has room for the buffers of one read.
                if any(self._needs_rows(j, sample) for sample in samples):
                    self.rows(j, None)
                if following is not None and any(self._needs_rows(following, sample) for sample in samples):
                    self._held.prefetch(following)
                parts = (evaluation(self, j, common) for evaluation, common in zip(evaluations, shared, strict=True))
                sums = tuple(itertools.chain.from_iterable(parts))
                with self._lock:
                    self.n_done += 1
                    is_last = self.n_done == len(partitions)
                # What the last one completes is added by all threads: the others have nothing else to do.
                (tree.put if is_last else tree.add)((0, j), sums)
            finally:
                self._thread.rows = {}

        try:
            self.spread(work, partitions)
        finally:
            self._held.end_round()
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

    def _follow_plan(self) -> None:
        """Divide the memory among rows and what follows from them, for the partitions that are asked about."""
        job, asked = self.job, self._last_used.keys()
        if asked == self._planned:
            return
        chosen = plan(job.network, job.source, self.dtype, self._memory, n_threads=self.n_threads, partitions=asked)
        if not job.keep:
            chosen = Plan(whole=False, rows=0, derived=0)
        self._held.follow(chosen)
        self._derived.limit = chosen.derived
        self._planned = set(asked)

    def _forget_unused(self, partitions: Sequence[int]) -> None:
        """Drop the rows of partitions that others have taken over since."""
        self._n_rounds += 1
        self._last_used |= dict.fromkeys(partitions, self._n_rounds)
        for j in [j for j, used in self._last_used.items() if used < self._n_rounds - _KEPT_ROUNDS]:
            del self._last_used[j]
            self._held.forget(j)
            for drawn in self._samples.values():
                if j in drawn:
                    self._derived.give(nbytes(drawn.pop(j)))
            self._primals = {key: kept for key, kept in self._primals.items() if key[2] != j}

    def spread(self, work: Callable[[int, int | None], None], partitions: Sequence[int]) -> None:
        """Call ``work`` on every partition, on all threads; this one takes part, which saves a change of threads.

        Each thread has a contiguous run, so that it adds its own subtrees; one that is done helps the others. Work is
        told the partition and the one that follows in the run. A failure ends the round early.
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
                    following = own[0] if own else None
                try:
                    work(j, following)
                except BaseException:
                    with self._lock:
                        for run in runs:
                            run.clear()
                    raise

        self._team.run([partial(drain, run) for run in runs])

    def rows(self, j: int, sample: RowSample | None) -> Rows:
        """The rows of partition j, or of a sample of it."""
        mine: dict[RowSample | None, Rows] = self._thread.__dict__.setdefault("rows", {})
        rows = mine.get(sample)
        if rows is None:
            rows = mine[sample] = self._held.get(j) if sample is None else self._sampled(j, sample)
        return rows

    def _sampled(self, j: int, sample: RowSample) -> Rows:
        drawn, source = self._drawn(sample), self.job.source
        rows = drawn.get(j)
        if rows is None:
            rows = self.rows(j, None).take(sample_indices(sample, *source.partition_rows(j), source.n_rows))
            if self._derived.take(nbytes(rows)):
                drawn[j] = rows
        return rows

    def _drawn(self, sample: RowSample) -> dict[int, Rows]:
        """What is held of a sample; the oldest samples make room for a new one."""
        with self._lock:
            drawn = self._samples.setdefault(sample, {})
            while len(self._samples) > _KEPT_SAMPLES:
                for rows in self._samples.pop(next(iter(self._samples))).values():
                    self._derived.give(nbytes(rows))
        return drawn

    def _needs_rows(self, j: int, sample: RowSample | None) -> bool:
        """Whether an evaluation on a sample will read partition j."""
        return sample is None or j not in self._samples.get(sample, {})

    def arguments(self, rows: Rows) -> tuple[Any, ...]:
        """What every pass takes after theta: codes, rows, scaling, block size and this thread's scratch."""
        network = self.job.network
        block = blocks.block_rows(len(rows.X), network.n_params)
        size = blocks.work_size(network.sizes, block)
        work = getattr(self._thread, "work", None)
        if work is None or work.size < size:
            work = self._thread.work = np.empty(size, self.dtype)
        return (
            *self.code,
            blocks.as_bytes(rows.X),
            rows.labels,
            rows.targets,
            rows.weights,
            self.scale,
            self.offset,
            block,
            work,
        )

    def empty_primal(self, j: int, sample: RowSample | None) -> NDArray[Any]:
        """An array for a pass to write partition j's primal pass into; empty if there is no memory to keep it."""
        kept = np.empty(len(self.rows(j, sample).X) * 2 * sum(self.job.network.sizes[1:]), self.dtype)
        if self._derived.hold(kept):
            return kept
        _log.info("primal passes take more than their part of memory; some are recomputed for each product")
        return np.empty(0, self.dtype)

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
        self._team.close()
        self._held.close()
