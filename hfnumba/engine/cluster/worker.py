"""The handler on a Dask worker that answers rounds, called by the client or by a worker that relays."""

from __future__ import annotations

import asyncio
import logging
import threading
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from distributed import Status, Worker, WorkerPlugin
from numpy.typing import NDArray

from hfnumba.engine.cluster.messages import (
    DONE,
    FORGET,
    GREET,
    OPERATION,
    WORKING,
    Answer,
    RoundMessage,
    packed,
    unpacked,
)
from hfnumba.engine.cluster.relay import Supply, ask_below, combined
from hfnumba.engine.cluster.shared_memory import AnswerBox, Parcel, Place, SharedMemoryError, Window, Windows
from hfnumba.engine.host import PartitionHost
from hfnumba.engine.tree import Node, Sums
from hfnumba.errors import HfnumbaError, StoreError
from hfnumba.kernels import blas, cache
from hfnumba.linux import reuse_freed_memory, thread_activity
from hfnumba.processors import worker_memory
from hfnumba.versions import installed

_log = logging.getLogger(__name__)
# Freed memory that a worker reuses for the vectors of the next round.
_REUSED_BYTES = 1 << 28
# Clients that died leave problems behind; the oldest make room for new ones.
_MAX_PROBLEMS = 8
THREADS = "hfnumba"
"""Beginning of the names of all threads that compute or read rows."""
_CLOSING = {Status.closing, Status.closed}


@dataclass(frozen=True)
class _ProblemState:
    """What a worker has of one problem: its partitions, opened boxes of the client, and a box for answers."""

    host: PartitionHost
    windows: Windows = field(default_factory=Windows)
    box: AnswerBox = field(default_factory=AnswerBox)

    def receive(self, message: RoundMessage) -> list[str]:
        """Take the message's vectors; return the names of those that are missing."""
        vectors = {
            name: self.windows.open(vector.place).array(vector) if isinstance(vector, Parcel) else vector
            for name, vector in message.vectors.items()
        }
        missing = self.host.receive(vectors, message.live)
        self.windows.retain(message.boxes or ())
        return missing

    def packed(self, message: RoundMessage, nodes: dict[Node, Sums]) -> dict[Node, tuple[NDArray[Any] | Parcel, ...]]:
        """Put the sums into the box, if the client opens it and there is memory for it."""
        if message.boxes is not None:
            try:
                parcels = iter(self.box.pack(message.number, [array for sums in nodes.values() for array in sums]))
            except SharedMemoryError as error:
                _log.debug("the answer travels by itself: %s", error)
            else:
                return {node: tuple(next(parcels) for _ in sums) for node, sums in nodes.items()}
        return dict(nodes)


class RoundServer:
    """The handler of one worker; it computes in a thread of its own, so that the worker's event loop stays free.

    One round is computed after another. So a round that its client has given up is finished before the next one
    is begun, and cannot overwrite that one's answer.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._problems: dict[str, _ProblemState] = {}
        self._executor = ThreadPoolExecutor(1, f"{THREADS}-round")
        # Messages that are not answered yet, with what this worker itself computes for them.
        self._in_hand: dict[tuple[str, int], asyncio.Future[Answer] | None] = {}
        self._ticks = -1
        self._warming = asyncio.get_running_loop().run_in_executor(self._executor, cache.warm_up, _log.warning)

    @property
    def _address(self) -> str:
        return str(self._worker.contact_address or self._worker.address)

    async def greet(self, probe: tuple[Any, ...] | None) -> dict[str, Any]:
        """Return what computes here, and whether this process can open the client's box; before, that it starts."""
        if not self._warming.done():
            return {"starts": True}
        if (error := self._warming.exception()) is not None:
            return {"failure": f"cannot compile its kernels ({type(error).__name__}: {error})"}
        sees = False
        if probe is not None:
            try:
                sees = Window(Place(*probe)) is not None
            except SharedMemoryError as error:
                _log.debug("vectors travel by the network: %s", error)
        name = lasting_name(self._worker)
        return {"versions": installed(), "arithmetic": blas.arithmetic(), "sees": sees, "name": name}

    async def answer(self, request: Any) -> Any:
        """Answer a round, with those below if there are any; both as they travel."""
        message: RoundMessage = unpacked(request)
        key = message.problem_id, message.number
        self._in_hand[key] = None
        try:
            return packed(await self._answered(message))
        finally:
            self._in_hand.pop(key, None)

    async def working(self, problem_id: str, number: int) -> bool:
        """Whether a message has come and is not answered yet, and this worker does something for it.

        A thread that waits for another one for ever uses no processor. One that computes does, or is ready to, or waits
        for a disk; so a worker is heard however slow its machine is.
        """
        key = problem_id, number
        if key not in self._in_hand:
            return False
        own = self._in_hand[key]
        if own is None or own.done():
            return True  # It waits for workers below it, which it asks for their own signs of life.
        threads = [t.native_id for t in threading.enumerate() if t.name.startswith(THREADS) and t.native_id is not None]
        found = thread_activity(threads)
        if found is None:
            return True
        runs, ticks = found
        before, self._ticks = self._ticks, ticks
        return runs or ticks != before

    async def _answered(self, message: RoundMessage) -> Answer:
        supply = self._supply(message) if message.below else None
        own = asyncio.get_running_loop().run_in_executor(self._executor, self._answer, message)
        self._in_hand[message.problem_id, message.number] = own
        return await own if supply is None else await self._relay(message, supply, own)

    async def _relay(self, message: RoundMessage, supply: Supply, own: asyncio.Future[Answer]) -> Answer:
        """Ask those below while this worker computes, and add what they answer."""
        try:
            found = await ask_below(message, supply, self._worker.rpc, self._worker.scheduler)
            mine = await own
            if mine.failure is not None or mine.lacks:
                return mine
            work = partial(combined, mine, self._address, found, message, supply)
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except Exception:
            return Answer(message.number, failure=traceback.format_exc(limit=-3))

    def _supply(self, message: RoundMessage) -> Supply | None:
        """What those below may need; None if some of it is missing here, which the answer will name."""
        state = self._problems.get(message.problem_id)
        problem = message.problem if state is None else state.host.problem
        vectors = ({} if state is None else state.host.vectors) | dict(message.vectors)
        return None if problem is None or set(message.live) - set(vectors) else Supply(problem, vectors)

    async def done(self, problem_id: str) -> int:
        """Return the number of partitions of the current round that are computed."""
        state = self._problems.get(problem_id)
        return 0 if state is None else state.host.n_done

    async def forget(self, problem_id: str) -> None:
        """Drop a problem with its rows."""
        state = self._problems.pop(problem_id, None)
        if state is not None:
            state.host.close()

    def _answer(self, message: RoundMessage) -> Answer:
        try:
            state = self._state(message)
            if state is None:
                return Answer(message.number, lacks_problem=True)
            missing = state.receive(message)
            if missing:
                return Answer(message.number, missing=tuple(missing))
            nodes = state.host.evaluate(message.evaluations, message.partitions)
            return Answer(message.number, state.packed(message, nodes), n_recomputed=state.host.n_recomputed)
        except SharedMemoryError as error:
            _log.debug("a box could not be opened: %s", error)
            return Answer(message.number, lacks_boxes=True)
        except HfnumbaError as error:
            named = named_error(error, self._worker) if isinstance(error, StoreError) else error
            return Answer(message.number, error=named)
        except Exception:
            return Answer(message.number, failure=traceback.format_exc(limit=-3))

    def _state(self, message: RoundMessage) -> _ProblemState | None:
        if message.problem_id not in self._problems:
            if message.problem is None:
                return None
            while len(self._problems) >= _MAX_PROBLEMS:
                self._problems.pop(next(iter(self._problems))).host.close()
            n_threads = self._worker.state.nthreads
            memory = worker_memory(self._worker.memory_manager.memory_limit, n_threads)
            host = PartitionHost(message.problem, n_threads, memory)
            self._problems[message.problem_id] = _ProblemState(host)
        return self._problems[message.problem_id]

    def close(self) -> None:
        """Stop all threads."""
        self._executor.shutdown(wait=False)
        for state in self._problems.values():
            state.host.close()


def lasting_name(worker: Worker) -> str:
    """Return the name of a worker that the process in its place will have.

    One that nobody has named, as ``dask worker`` starts them, is called by its address, which changes with the process;
    the address of its nanny does not.
    """
    is_named = worker.name not in (None, worker.address, worker.contact_address)
    return str(worker.name if is_named or not worker.nanny else worker.nanny)


def named_error(error: StoreError, worker: Worker) -> StoreError:
    """Return an error of the store with the name of the worker: others may see another store."""
    return StoreError(
        f"{error} (on worker {worker.name} at {worker.address}; every worker must be able to read the store "
        "at the same path)"
    )


def _hush_heartbeat(worker: Worker) -> None:
    """Filter out of Dask's log the error that a worker cuts off its own heartbeat when it closes."""
    # The log outlives a worker that is a part of this process.
    reference = weakref.ref(worker)

    def wanted(record: logging.LogRecord) -> bool:
        status = getattr(reference(), "status", None)
        return status not in _CLOSING or "heartbeat" not in str(record.msg)

    logging.getLogger("distributed.worker").addFilter(wanted)


async def _no_answer(**_message: Any) -> None:
    """Return None, as Dask does for an unknown operation, but without the traceback in its log.

    Messages that a client sent before it learned that the worker closes still arrive.
    """


class RoundPlugin(WorkerPlugin):
    """Gives every worker, present or future, the handler.

    Kernels are compiled before a worker takes part, but not before it answers greetings: these are its signs of life.
    """

    name = "hfnumba"
    idempotent = True

    async def setup(self, worker: Worker) -> None:
        """Called by Dask on each worker."""
        reuse_freed_memory(_REUSED_BYTES)
        _hush_heartbeat(worker)
        self._server = RoundServer(worker)
        worker.handlers[GREET] = self._server.greet
        worker.handlers[OPERATION] = self._server.answer
        worker.handlers[FORGET] = self._server.forget
        worker.handlers[DONE] = self._server.done
        worker.handlers[WORKING] = self._server.working

    def teardown(self, worker: Worker) -> None:
        """Called by Dask when the worker closes."""
        worker.handlers.update(dict.fromkeys((GREET, OPERATION, FORGET, DONE, WORKING), _no_answer))
        if hasattr(self, "_server"):
            self._server.close()
