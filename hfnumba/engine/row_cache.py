"""Row cache of a host: keeps every partition that fits in memory and re-reads the rest each round.

A round goes through the partitions in one order, again and again. Dropping what was used longest ago would drop each
partition just before its turn. So the first partitions that fit are cached, and the others are read whenever their turn
comes, the next one while the present one is computed. What is read again is verified again and has the same bits; so
the results do not depend on the memory.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfnumba.engine.memory import Budget, MemoryPlan
from hfnumba.engine.rows import RowArrays, RowSource, as_rows
from hfnumba.linux import run_anywhere
from hfnumba.network import Network

_READERS = 2

Compact = Mapping[str, NDArray[Any]]


def nbytes(arrays: Compact | RowArrays) -> int:
    """Bytes of some arrays."""
    return sum(array.nbytes for array in (arrays if isinstance(arrays, RowArrays) else arrays.values()))


class RowCache:
    """Partitions of a source, read when they are needed.

    Parameters
    ----------
    network, source, dtype
        As in a :class:`hfnumba.engine.protocol.Problem`.
    """

    def __init__(self, network: Network, source: RowSource, dtype: np.dtype[Any]) -> None:
        self._network, self._source, self._dtype = network, source, dtype
        self._cached: dict[int, RowArrays | Compact] = {}
        self._reads: dict[int, Future[Compact]] = {}
        self._lock = threading.Lock()
        self._whole, self._budget = True, Budget()
        self._readers: ThreadPoolExecutor | None = None
        self._process = os.getpid()

    def follow(self, plan: MemoryPlan) -> None:
        """Follow a memory plan; drop partitions that have no room in it."""
        if plan.whole != self._whole:
            self._cached.clear()
            self._budget = Budget()
        self._whole, self._budget.limit = plan.whole, plan.rows
        while self._budget.is_exceeded:
            self.drop(max(self._cached))

    def get(self, j: int) -> RowArrays:
        """Return the rows of partition j; they need not be cached afterwards."""
        cached = self._cached.get(j)
        if isinstance(cached, RowArrays):
            return cached
        compact = cached if cached is not None else self._read(j)
        source, weights = self._source, compact.get("weights")
        rows = as_rows(
            self._network, *source.expand(compact), self._dtype, weights, scale=source.scale, offset=source.offset
        )
        if self._whole:
            return self._cached.setdefault(j, rows)  # type: ignore[return-value]  # whole: RowArrays only
        return rows

    def prefetch(self, j: int) -> None:
        """Begin to read partition j, unless it is cached."""
        if self._whole or j in self._cached:
            return
        with self._lock:
            if j not in self._reads:
                if self._readers is None or self._process != os.getpid():
                    # A process that was forked has no threads.
                    self._readers = ThreadPoolExecutor(_READERS, "hfnumba-read", run_anywhere)
                    self._process = os.getpid()
                self._reads[j] = self._readers.submit(self._source.load_compact, j)

    def end_round(self) -> None:
        """Drop what was read ahead and not used, because the round ended early."""
        with self._lock:
            reads, self._reads = self._reads, {}
        for future in reads.values():
            future.cancel()

    def drop(self, j: int) -> None:
        """Drop partition j."""
        cached = self._cached.pop(j, None)
        if cached is not None and not self._whole:
            self._budget.give(nbytes(cached))

    def close(self) -> None:
        """Stop reading, and drop all."""
        self.end_round()
        self._cached.clear()
        if self._readers is not None:
            self._readers.shutdown()

    def _read(self, j: int) -> Compact:
        with self._lock:
            future = self._reads.pop(j, None)
        # What has not been begun is read here: it would only wait for its turn.
        compact = self._source.load_compact(j) if future is None or future.cancel() else future.result()
        if not self._whole and self._budget.take(nbytes(compact)):
            self._cached[j] = compact
        return compact
