"""Threads of this process, or workers of a cluster, that compute many answers in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hfnumba.errors import ClusterError, UsageError, sentence

if TYPE_CHECKING:
    from distributed import Worker
    from numpy.typing import NDArray

    from hfnumba.launch.spec import Placement


@dataclass(frozen=True)
class Pool:
    """Executor with an object that its threads or workers have, such as a model.

    Attributes
    ----------
    executor : concurrent.futures.Executor
    shared : object or distributed.Future
        First argument of every task.
    n_tasks : int
        Number of tasks that are under way at once, whose rows and answers are in memory.
    lost : tuple of exception types
        Errors of tasks whose workers are lost.
    """

    executor: Executor
    shared: Any
    n_tasks: int
    lost: tuple[type[Exception], ...] = ()

    def map(
        self, function: Callable[..., NDArray[Any]], arguments: Iterable[tuple[Any, ...]]
    ) -> Iterator[NDArray[Any]]:
        """Yield ``function(shared, *arguments)`` in the order of the arguments, which are read as answers are taken.

        Raises
        ------
        ClusterError
            If workers of a cluster are lost again and again.
        """
        pending: deque[Future[NDArray[Any]]] = deque()
        try:
            for some in arguments:
                pending.append(self.executor.submit(function, self.shared, *some))
                if len(pending) > self.n_tasks:
                    yield self._answer(pending.popleft())
            while pending:
                yield self._answer(pending.popleft())
        finally:
            for future in pending:
                future.cancel()

    def _answer(self, future: Future[NDArray[Any]]) -> NDArray[Any]:
        try:
            return future.result()
        except self.lost as error:
            raise ClusterError(
                f"the workers that compute a block of rows are lost ({sentence(error)}); see their logs, or "
                "continue without --cluster"
            ) from error


class _Threads(ThreadPoolExecutor):
    """Threads of this process, which are started as there is work for them."""

    def submit[**P, T](self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Submit a task.

        Raises
        ------
        UsageError
            If the system does not let this process start as many threads.
        """
        try:
            return super().submit(function, *args, **kwargs)
        except RuntimeError as error:
            if "start new thread" not in str(error):
                raise
            raise UsageError(
                f"expected to start {self._max_workers} threads, but this machine allows this process fewer "
                f"({error}); give a smaller number of threads (--threads)"
            ) from error


@contextmanager
def open_pool(shared: object, placement: Placement, n_threads: int | None = None) -> Iterator[Pool]:
    """Yield the pool of a cluster, or of this process with a number of threads, by default one per processor."""
    from hfnumba.processors import available_processors  # noqa: PLC0415

    if placement.client is None:
        n = n_threads or available_processors()
        with _Threads(n, "predict") as threads:
            yield Pool(threads, shared, 2 * n)
        return
    from distributed import KilledWorker  # noqa: PLC0415 - slow to import

    client = placement.client
    with client.get_executor(pure=False) as workers:
        n = max(1, sum(client.nthreads().values()))
        yield Pool(workers, client.scatter(shared, broadcast=True), 2 * n, (KilledWorker, CancelledError))


def this_worker() -> Worker | None:
    """Worker of Dask that computes the task that asks; None in threads of a process that is no worker."""
    from distributed import get_worker  # noqa: PLC0415 - slow to import

    try:
        return get_worker()
    except ValueError:
        return None
