"""Rounds over the workers of a Dask cluster.

Partitions are assigned to workers in contiguous runs. A round is one direct call to each worker; the answers are
whole subtrees of the summation tree. A worker that is gone or silent loses its partitions to the others, which
redo only those. The scheduler is asked only which workers there are.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, field

from distributed import Client
from distributed.comm.core import CommClosedError
from distributed.protocol import to_serialize

from hfnumba.engine.host import Job
from hfnumba.engine.protocol import Round
from hfnumba.engine.tree import Sums, TreeSum
from hfnumba.engine.worker import FORGET, OPERATION, Answer, Request, RoundPlugin
from hfnumba.errors import ClusterError

_log = logging.getLogger(__name__)
_GONE = (CommClosedError, OSError)
_NO_WORKER_TIMEOUT_S = 60.0
_RESTART_TIMEOUT_S, _FORGET_TIMEOUT_S, _SCHEDULER_TIMEOUT_S = 30.0, 10.0, 30.0
_POLL_S, _WATCH_S, _REFRESH_S = 0.1, 0.5, 2.0
_MAX_ATTEMPTS = 50
# First what the worker is thought to lack, then the job it turned out to lack, then vectors.
_MAX_EXCHANGES = 3


def assign(partitions: Iterable[int], threads: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Contiguous runs of partitions for each worker, in proportion to its threads; workers by address."""
    todo, total = list(partitions), sum(threads.values())
    runs, done, weight = {}, 0, 0
    for address in sorted(threads):
        weight += threads[address]
        end = len(todo) * weight // total
        if end > done:
            runs[address] = tuple(todo[done:end])
        done = end
    return runs


@dataclass
class _Known:
    """What the client believes a worker to have; a wrong belief costs one more exchange, never a wrong sum."""

    job: bool = False
    vectors: set[str] = field(default_factory=set)


class DaskEngine:
    """Evaluates every partition on the workers.

    Parameters
    ----------
    job : Job
    client : distributed.Client
    timeout_s : float
        How long a worker may take to answer a round before it is restarted.
    """

    def __init__(self, job: Job, client: Client, timeout_s: float) -> None:
        self._job, self._client, self._timeout_s = job, client, timeout_s
        self._numbers = itertools.count()
        self._known: dict[str, _Known] = {}
        self._threads: dict[str, int] = {}
        self._asked = 0.0
        client.register_plugin(RoundPlugin())

    def run(self, request: Round) -> Sums:
        """The sums over all partitions. Raises ClusterError if no worker is left, or one fails for another reason."""
        sums: Sums = self._client.sync(self._run, request)
        return sums

    def close(self) -> None:
        """Let the workers drop this job's rows."""
        if self._client.status == "running":
            self._client.sync(self._forget)

    async def _run(self, request: Round) -> Sums:
        n = self._job.source.n_partitions
        tree, todo = TreeSum(n), tuple(range(n))
        for attempt in range(_MAX_ATTEMPTS):
            threads = await self._present(refresh=attempt > 0)
            runs = assign(todo, threads)
            answers = await asyncio.gather(*(self._ask(address, run, request) for address, run in runs.items()))
            lost: list[int] = []
            for run, answer in zip(runs.values(), answers, strict=True):
                if answer is None:
                    lost.extend(run)
                    continue
                for node, sums in answer.nodes.items():
                    tree.add(node, sums)
            if not lost:
                return tree.total()
            todo = tuple(sorted(lost))
            _log.warning("a worker was lost; its %d partitions are redone by the others", len(todo))
        raise ClusterError(
            f"workers were lost {_MAX_ATTEMPTS} times within one round; see the workers' logs, then use --resume"
        )

    async def _ask(self, address: str, run: tuple[int, ...], request: Round) -> Answer | None:
        """One worker's answer for its partitions; None if it is gone, silent, or not ready."""
        known = self._known.setdefault(address, _Known())
        try:
            for _ in range(_MAX_EXCHANGES):
                answer = await self._exchange(address, known, run, request)
                if answer is None or not (answer.lacks_job or answer.missing):
                    return answer
                known.job = known.job and not answer.lacks_job
                known.vectors -= set(answer.missing) if not answer.lacks_job else known.vectors.copy()
        except TimeoutError:
            _log.warning("worker %s did not answer within %.0f s and is restarted", address, self._timeout_s)
            await self._restart(address)
        except _GONE as error:
            _log.warning("worker %s is gone: %s", address, error)
        self._known.pop(address, None)
        return None

    async def _exchange(self, address: str, known: _Known, run: tuple[int, ...], request: Round) -> Answer | None:
        """Send what the worker is not known to have, and read its answer."""
        number = next(self._numbers)
        fresh = {name: vector for name, vector in request.vectors.items() if name not in known.vectors}
        job = None if known.job else self._job
        message = Request(number, self._job.id, request.evaluations, run, tuple(request.vectors), fresh, job)
        known.job, known.vectors = True, set(request.vectors)
        call = getattr(self._client.rpc(address), OPERATION)(request=to_serialize(message))
        answer = await self._watched(address, call)
        if answer is None:
            # Dask answers None for a handler it does not know: the plugin is still being set up.
            await asyncio.sleep(_POLL_S)
            self._known.pop(address, None)
            return None
        if answer.error is not None:
            raise answer.error
        if answer.failure is not None or answer.number != number:
            raise ClusterError(f"worker {address} could not answer a round: {answer.failure or 'a stale answer'}")
        return answer

    async def _watched(self, address: str, call: Awaitable[Answer | None]) -> Answer | None:
        """Wait for an answer as long as the scheduler knows the worker, and at most the time a round may take.

        A connection to a dead process is retried for half a minute; the scheduler hears of the death at once.
        """
        task, loop = asyncio.ensure_future(call), asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s
        try:
            while not (await asyncio.wait({task}, timeout=_WATCH_S))[0]:
                if loop.time() > deadline:
                    raise TimeoutError
                if address not in await self._workers():
                    raise CommClosedError("the scheduler has lost it")
            return task.result()
        finally:
            task.cancel()

    async def _workers(self) -> dict[str, int]:
        """Threads of each worker that the scheduler knows."""
        try:
            # The client knows at once that it has lost the scheduler, where a new connection would be tried for long.
            if self._client.status != "running":
                raise CommClosedError(f"the client is {self._client.status}")
            identity = await asyncio.wait_for(self._client.scheduler.identity(n_workers=-1), _SCHEDULER_TIMEOUT_S)
        except (*_GONE, TimeoutError) as error:
            raise ClusterError("the scheduler is gone; start a cluster again and use --resume") from error
        return {address: int(worker["nthreads"]) for address, worker in identity["workers"].items()}

    async def _present(self, refresh: bool) -> dict[str, int]:
        """Threads of each worker; asked for anew after a loss, and now and then, so that new workers take part."""
        loop = asyncio.get_running_loop()
        if self._threads and not refresh and loop.time() - self._asked < _REFRESH_S:
            return self._threads
        deadline = loop.time() + _NO_WORKER_TIMEOUT_S
        while loop.time() < deadline:
            present = await self._workers()
            if present:
                self._threads, self._asked = present, loop.time()
                self._known = {address: known for address, known in self._known.items() if address in present}
                return present
            await asyncio.sleep(_POLL_S)
        raise ClusterError(f"no worker came within {_NO_WORKER_TIMEOUT_S:.0f} s; start workers, then use --resume")

    async def _restart(self, address: str) -> None:
        try:
            await self._client.restart_workers([address], timeout=_RESTART_TIMEOUT_S, raise_for_error=False)
        except Exception as error:
            _log.warning("worker %s could not be restarted: %s", address, error)

    async def _forget(self) -> None:
        calls = (getattr(self._client.rpc(address), FORGET)(job_id=self._job.id) for address in self._known)
        await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), _FORGET_TIMEOUT_S)
