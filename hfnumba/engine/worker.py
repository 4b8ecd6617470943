"""What lives on a Dask worker: a handler that answers rounds, called by the client directly.

A request carries its job's number, the names of the live vectors, and the vectors the client thinks are new here.
What the worker lacks (it was restarted, it joined) it names, and the client sends the request again with it. So no
answer ever rests on state that the request did not name.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from distributed import Worker, WorkerPlugin
from distributed.protocol import to_serialize
from numpy.typing import NDArray

from hfnumba.engine.host import Evaluation, Job, PartitionHost, default_memory
from hfnumba.engine.tree import Node, Sums
from hfnumba.errors import HfnumbaError
from hfnumba.kernels import cache

OPERATION = "hfnumba_round"
FORGET = "hfnumba_forget"
# Clients that died without a word leave jobs behind; the oldest make room for new ones.
_MAX_JOBS = 8


@dataclass(frozen=True)
class Request:
    """A round for one worker."""

    number: int
    job_id: str
    evaluations: tuple[Evaluation, ...]
    partitions: tuple[int, ...]
    live: tuple[str, ...]
    vectors: Mapping[str, NDArray[Any]]
    job: Job | None = None


@dataclass(frozen=True)
class Answer:
    """Sums of some nodes of the tree; or what the worker lacks; or the error that kept it from answering."""

    number: int
    nodes: dict[Node, Sums] = field(default_factory=dict)
    lacks_job: bool = False
    missing: tuple[str, ...] = ()
    error: HfnumbaError | None = None
    failure: str | None = None


class RoundServer:
    """The handler of one worker; it computes in a thread of its own, so that the worker's event loop stays free."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._hosts: dict[str, PartitionHost] = {}
        self._executor = ThreadPoolExecutor(1, "hfnumba-round")

    async def answer(self, request: Request) -> Any:
        """Answer a round."""
        loop = asyncio.get_running_loop()
        return to_serialize(await loop.run_in_executor(self._executor, self._answer, request))

    async def forget(self, job_id: str) -> None:
        """Drop a job with its rows."""
        host = self._hosts.pop(job_id, None)
        if host is not None:
            host.close()

    def _answer(self, request: Request) -> Answer:
        try:
            host = self._host(request)
            if host is None:
                return Answer(request.number, lacks_job=True)
            missing = host.receive(request.vectors, request.live)
            if missing:
                return Answer(request.number, missing=tuple(missing))
            return Answer(request.number, host.evaluate(request.evaluations, request.partitions))
        except HfnumbaError as error:
            return Answer(request.number, error=error)
        except Exception:
            return Answer(request.number, failure=traceback.format_exc(limit=-3))

    def _host(self, request: Request) -> PartitionHost | None:
        if request.job_id not in self._hosts:
            if request.job is None:
                return None
            while len(self._hosts) >= _MAX_JOBS:
                self._hosts.pop(next(iter(self._hosts))).close()
            memory = self._worker.memory_manager.memory_limit or default_memory()
            self._hosts[request.job_id] = PartitionHost(request.job, self._worker.state.nthreads, memory)
        return self._hosts[request.job_id]

    def close(self) -> None:
        """Stop all threads."""
        self._executor.shutdown(wait=False)
        for host in self._hosts.values():
            host.close()


class RoundPlugin(WorkerPlugin):
    """Gives every worker, present or future, the handler. Kernels are compiled before a worker takes part."""

    name = "hfnumba"
    idempotent = True

    async def setup(self, worker: Worker) -> None:
        """Called by Dask on each worker."""
        await asyncio.get_running_loop().run_in_executor(None, cache.warm_up)
        self._server = RoundServer(worker)
        worker.handlers[OPERATION] = self._server.answer
        worker.handlers[FORGET] = self._server.forget

    def teardown(self, worker: Worker) -> None:
        """Called by Dask when the worker closes."""
        worker.handlers.pop(OPERATION, None)
        worker.handlers.pop(FORGET, None)
        if hasattr(self, "_server"):
            self._server.close()
