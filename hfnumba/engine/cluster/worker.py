"""What lives on a Dask worker: a handler that answers rounds, called by the client, or by a worker that relays."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from distributed import Status, Worker, WorkerPlugin
from numpy.typing import NDArray

from hfnumba.engine.cluster.messages import DONE, FORGET, GREET, OPERATION, Answer, Request, packed, unpacked
from hfnumba.engine.cluster.relay import Supply, ask_below, combined
from hfnumba.engine.cluster.shared_memory import AnswerBox, Parcel, Place, SharedMemoryError, Window, Windows
from hfnumba.engine.host import PartitionHost, default_memory
from hfnumba.engine.tree import Node, Sums
from hfnumba.errors import HfnumbaError
from hfnumba.kernels import blas, cache
from hfnumba.versions import installed

_log = logging.getLogger(__name__)
# Of glibc's mallopt. Dask's nanny asks it to give all memory back at once, and so each new vector would be new pages.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 1 << 28
_MAX_MMAP_THRESHOLD = 1 << 25
# Clients that died without a word leave jobs behind; the oldest make room for new ones.
_MAX_JOBS = 8
_CLOSING = {Status.closing, Status.closed}


@dataclass(frozen=True)
class _Kept:
    """What a worker has of one job."""

    host: PartitionHost
    windows: Windows = field(default_factory=Windows)
    box: AnswerBox = field(default_factory=AnswerBox)

    def receive(self, request: Request) -> list[str]:
        """Take the request's vectors; return the names of those that are missing."""
        vectors = {
            name: self.windows.open(vector.place).array(vector) if isinstance(vector, Parcel) else vector
            for name, vector in request.vectors.items()
        }
        missing = self.host.receive(vectors, request.live)
        self.windows.keep(request.boxes or ())
        return missing

    def packed(self, request: Request, nodes: dict[Node, Sums]) -> dict[Node, tuple[NDArray[Any] | Parcel, ...]]:
        """The sums in the box, if the client looks there and there is memory for one."""
        if request.boxes is not None:
            try:
                parcels = iter(self.box.pack(request.number, [array for sums in nodes.values() for array in sums]))
            except SharedMemoryError as error:
                _log.debug("the answer travels by itself: %s", error)
            else:
                return {node: tuple(next(parcels) for _ in sums) for node, sums in nodes.items()}
        return dict(nodes)


class RoundServer:
    """The handler of one worker; it computes in a thread of its own, so that the worker's event loop stays free.

    One request is computed after another. So a request that its client has given up is done before the next one
    is begun, and cannot write over that one's answer.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._jobs: dict[str, _Kept] = {}
        self._executor = ThreadPoolExecutor(1, "hfnumba-round")

    async def greet(self, probe: tuple[Any, ...] | None) -> dict[str, Any]:
        """Say what computes here, and whether this process can look into the client's box."""
        sees = False
        if probe is not None:
            try:
                sees = Window(Place(*probe)) is not None
            except SharedMemoryError as error:
                _log.debug("vectors travel by the network: %s", error)
        name = str(self._worker.name)
        return {"versions": installed(), "arithmetic": blas.arithmetic(), "sees": sees, "name": name}

    async def answer(self, request: Any) -> Any:
        """Answer a round, with those below if there are any; both as they travel."""
        return packed(await self._answered(unpacked(request)))

    async def _answered(self, request: Request) -> Answer:
        supply = self._supply(request) if request.below else None
        own = asyncio.get_running_loop().run_in_executor(self._executor, self._answer, request)
        return await own if supply is None else await self._relay(request, supply, own)

    async def _relay(self, request: Request, supply: Supply, own: asyncio.Future[Answer]) -> Answer:
        """Ask those below while this worker computes, and add what they answer."""
        try:
            found = await ask_below(request, supply, self._worker.rpc, self._worker.scheduler)
            mine = await own
            if mine.failure is not None or mine.lacks:
                return mine
            address = self._worker.contact_address or self._worker.address
            work = partial(combined, mine, address, found, request, supply)
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except Exception:
            return Answer(request.number, failure=traceback.format_exc(limit=-3))

    def _supply(self, request: Request) -> Supply | None:
        """What those below may need; None if some of it is not here, which the answer will say."""
        kept = self._jobs.get(request.job_id)
        job = request.job if kept is None else kept.host.job
        vectors = ({} if kept is None else kept.host.vectors) | dict(request.vectors)
        return None if job is None or set(request.live) - set(vectors) else Supply(job, vectors)

    async def done(self, job_id: str) -> int:
        """Say how many partitions of the round under way are computed."""
        kept = self._jobs.get(job_id)
        return 0 if kept is None else kept.host.n_done

    async def forget(self, job_id: str) -> None:
        """Drop a job with its rows."""
        kept = self._jobs.pop(job_id, None)
        if kept is not None:
            kept.host.close()

    def _answer(self, request: Request) -> Answer:
        try:
            kept = self._job(request)
            if kept is None:
                return Answer(request.number, lacks_job=True)
            missing = kept.receive(request)
            if missing:
                return Answer(request.number, missing=tuple(missing))
            nodes = kept.host.evaluate(request.evaluations, request.partitions)
            return Answer(request.number, kept.packed(request, nodes))
        except SharedMemoryError as error:
            _log.debug("a box could not be opened: %s", error)
            return Answer(request.number, lacks_sight=True)
        except HfnumbaError as error:
            return Answer(request.number, error=error)
        except Exception:
            return Answer(request.number, failure=traceback.format_exc(limit=-3))

    def _job(self, request: Request) -> _Kept | None:
        if request.job_id not in self._jobs:
            if request.job is None:
                return None
            while len(self._jobs) >= _MAX_JOBS:
                self._jobs.pop(next(iter(self._jobs))).host.close()
            memory = self._worker.memory_manager.memory_limit or default_memory()
            host = PartitionHost(request.job, self._worker.state.nthreads, memory)
            self._jobs[request.job_id] = _Kept(host)
        return self._jobs[request.job_id]

    def close(self) -> None:
        """Stop all threads."""
        self._executor.shutdown(wait=False)
        for kept in self._jobs.values():
            kept.host.close()


def _keep_freed_memory() -> None:
    """Let this process reuse the memory of a round's vectors in the next; a page that is new costs more than a copy."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # Another C library, with ways of its own.
    mallopt(_M_MMAP_THRESHOLD, _MAX_MMAP_THRESHOLD)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _hush_heartbeat(worker: Worker) -> None:
    """Keep from Dask's log that a worker which closes cuts off its own heartbeat; it would be reported as an error."""
    # The log outlives a worker that is a part of this process.
    held = weakref.ref(worker)

    def wanted(record: logging.LogRecord) -> bool:
        status = getattr(held(), "status", None)
        return status not in _CLOSING or "heartbeat" not in str(record.msg)

    logging.getLogger("distributed.worker").addFilter(wanted)


class RoundPlugin(WorkerPlugin):
    """Gives every worker, present or future, the handler. Kernels are compiled before a worker takes part."""

    name = "hfnumba"
    idempotent = True

    async def setup(self, worker: Worker) -> None:
        """Called by Dask on each worker."""
        _keep_freed_memory()
        _hush_heartbeat(worker)
        await asyncio.get_running_loop().run_in_executor(None, cache.warm_up)
        self._server = RoundServer(worker)
        worker.handlers[GREET] = self._server.greet
        worker.handlers[OPERATION] = self._server.answer
        worker.handlers[FORGET] = self._server.forget
        worker.handlers[DONE] = self._server.done

    def teardown(self, worker: Worker) -> None:
        """Called by Dask when the worker closes."""
        for operation in (GREET, OPERATION, FORGET, DONE):
            worker.handlers.pop(operation, None)
        if hasattr(self, "_server"):
            self._server.close()
