"""Rounds over the workers of a Dask cluster.

Partitions are assigned to workers in contiguous runs. A round is one direct call to each worker; the answers are
whole subtrees of the summation tree. A worker that is gone or silent loses its partitions to the others, which
redo only those; so does one whose answer cannot be right. The scheduler is asked only which workers there are.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from distributed import Client
from distributed.comm.core import CommClosedError
from distributed.protocol import to_serialize
from numpy.typing import NDArray

from hfnumba.engine.answers import doubtful, fault, is_finite
from hfnumba.engine.host import Job
from hfnumba.engine.protocol import Round
from hfnumba.engine.shared import Parcel, SharedMemoryError, VectorBoxes, Window, Windows
from hfnumba.engine.tree import Node, Sums, add_up, leaves
from hfnumba.engine.worker import FORGET, OPERATION, Answer, Request, RoundPlugin
from hfnumba.engine.workers import GONE, Known, Workers
from hfnumba.errors import ClusterError

_log = logging.getLogger(__name__)
_FORGET_TIMEOUT_S = 10.0
_MAX_ATTEMPTS = 50
# Partitions whose answers are refused are given to others so often within one round.
_MAX_REFUSED = 3
# First what the worker is thought to lack, then the job it turned out to lack, then vectors, then without boxes.
_MAX_EXCHANGES = 4


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
class _Part:
    """What one worker has answered; its arrays may be in its box, which the next request to it writes over."""

    address: str
    number: int
    nodes: dict[Node, Sums]
    window: Window | None = None

    def is_intact(self) -> bool:
        """Whether the box still holds this answer."""
        return self.window is None or self.window.number() == self.number

    def keep(self) -> None:
        """Copy what is in the box."""
        if self.window is not None:
            self.nodes = {node: tuple(np.array(a) for a in sums) for node, sums in self.nodes.items()}
            self.window = None


class _RefusedError(Exception):
    """An answer that must not be added."""


@dataclass
class _Gathered:
    """A round on its way: what has come, and how often answers were refused."""

    request: Round
    parts: list[_Part] = field(default_factory=list)
    n_refused: int = 0
    last_reason: str = ""

    def nodes(self) -> dict[Node, Sums]:
        """All sums that have come."""
        return {node: sums for part in self.parts for node, sums in part.nodes.items()}


class DaskEngine:
    """Evaluates every partition on the workers.

    Parameters
    ----------
    job : Job
    client : distributed.Client
    timeout_s : float
        How long a worker may give no sign of life during a round before its partitions go to others.

    Notes
    -----
    On one machine vectors and sums are in memory that client and workers see (:mod:`hfnumba.engine.shared`); to and
    from other machines they travel with the messages.
    """

    def __init__(self, job: Job, client: Client, timeout_s: float) -> None:
        self._job, self._client = job, client
        self._numbers = itertools.count()
        self._workers = Workers(client, timeout_s)
        self._boxes, self._windows = VectorBoxes(), Windows()
        client.register_plugin(RoundPlugin())

    def run(self, request: Round) -> Sums:
        """The sums over all partitions. Raises ClusterError if no worker is left, or answers stay unusable."""
        gathered = _Gathered(request)
        self._boxes.keep(request.vectors)
        while True:
            self._client.sync(self._gather, gathered)
            # Here and not on the client's event loop, whose thread would get fresh memory for each sum.
            total, finite = add_up(gathered.nodes(), self._job.source.n_partitions)
            moved = [part for part in gathered.parts if not part.is_intact()]
            for part in moved:
                self._refuse(gathered, part, "a stale answer")
            if not moved and (finite or self._client.sync(self._is_true, gathered)):
                self._windows.keep({part.window.token for part in gathered.parts if part.window is not None})
                return total

    def sharing(self) -> tuple[int, int]:
        """How many of the workers see the client's memory, and how many there are."""
        self._client.sync(self._workers.present, True)
        known = self._workers.known.values()
        return sum(worker.sees for worker in known), len(known)

    def close(self) -> None:
        """Let the workers drop this job's rows."""
        if self._client.status == "running":
            self._client.sync(self._forget)

    async def _gather(self, gathered: _Gathered) -> None:
        """Ask until every partition's sum is there."""
        n = self._job.source.n_partitions
        for attempt in range(_MAX_ATTEMPTS):
            there = {j for part in gathered.parts for node in part.nodes for j in leaves(node, n)}
            todo = [j for j in range(n) if j not in there]
            if not todo:
                return
            if attempt or there:
                _log.warning("%d partitions are redone by other workers", len(todo))
                for part in gathered.parts:
                    part.keep()
            if gathered.n_refused >= _MAX_REFUSED:
                raise ClusterError(
                    f"{gathered.last_reason}; that was the third unusable answer in one round, so the fault is hardly "
                    "the machine's; see the workers' logs"
                )
            runs = assign(todo, await self._workers.present(refresh=bool(attempt or there)))
            await self._ask_all(runs, gathered)
        raise ClusterError(
            f"workers were lost {_MAX_ATTEMPTS} times within one round; see the workers' logs, then use --resume"
        )

    async def _ask_all(self, runs: dict[str, tuple[int, ...]], gathered: _Gathered) -> None:
        """One attempt: a call to each worker, and whatever of it comes back."""
        tasks = {a: asyncio.ensure_future(self._ask(a, run, gathered.request)) for a, run in runs.items()}
        try:
            await self._workers.watch(tasks)
        finally:
            for task in tasks.values():
                task.cancel()
            found = await asyncio.gather(*tasks.values(), return_exceptions=True)
        for address, result in zip(tasks, found, strict=True):
            if isinstance(result, _RefusedError):
                self._refuse(gathered, _Part(address, -1, {}), str(result))
            elif isinstance(result, _Part):
                gathered.parts.append(result)
            elif isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result

    def _refuse(self, gathered: _Gathered, part: _Part, why: str) -> None:
        """Forget an answer, and replace who gave it."""
        gathered.parts = [other for other in gathered.parts if other is not part]
        gathered.n_refused += 1
        gathered.last_reason = f"worker {part.address} gave {why}"
        self._client.loop.add_callback(self._workers.refuse, part.address, why)

    async def _ask(self, address: str, run: tuple[int, ...], request: Round) -> _Part | None:
        """One worker's answer for its partitions; None if it is gone or not ready."""
        known = self._workers.known.get(address)
        if known is None:
            return None
        try:
            for _ in range(_MAX_EXCHANGES):
                part = await self._exchange(address, known, run, request)
                if part is not None:
                    return part
        except GONE as error:
            _log.warning("worker %s is gone: %s", address, error)
        self._workers.known.pop(address, None)
        return None

    async def _exchange(self, address: str, known: Known, run: tuple[int, ...], request: Round) -> _Part | None:
        """Send what the worker is not known to have, and read its answer; None if it lacks something after all."""
        message = self._message(known, run, request)
        known.job, known.vectors = True, set(request.vectors)
        answer: Answer | None = await getattr(self._client.rpc(address), OPERATION)(request=to_serialize(message))
        if answer is None:
            raise CommClosedError("its handler is gone")
        if not isinstance(answer, Answer) or answer.number != message.number:
            raise _RefusedError("a stale answer")
        if answer.error is not None:
            raise answer.error
        if answer.failure is not None:
            raise _RefusedError(f"no answer but {answer.failure}")
        if answer.lacks_job or answer.missing or answer.lacks_sight:
            known.job, known.sees = not answer.lacks_job, known.sees and not answer.lacks_sight
            known.vectors -= set(answer.missing) or known.vectors.copy()
            return None
        return self._opened(address, known, run, request, answer)

    def _message(self, known: Known, run: tuple[int, ...], request: Round) -> Request:
        vectors: dict[str, Parcel | NDArray[Any]] = {}
        for name, vector in request.vectors.items():
            if name not in known.vectors:
                vectors[name] = vector
                if known.sees:
                    try:
                        vectors[name] = self._boxes.parcel(name, vector)
                    except SharedMemoryError as error:
                        _log.debug("a vector travels by itself: %s", error)
        return Request(
            next(self._numbers),
            self._job.id,
            request.evaluations,
            run,
            tuple(request.vectors),
            vectors,
            None if known.job else self._job,
            self._boxes.tokens() if known.sees else None,
        )

    def _opened(self, address: str, known: Known, run: tuple[int, ...], request: Round, answer: Answer) -> _Part | None:
        """An answer with its arrays, checked; None if its box cannot be opened."""
        window = None
        nodes: dict[Node, Sums] = {}
        try:
            for node, arrays in answer.nodes.items():
                for array in arrays:
                    if isinstance(array, Parcel):
                        window = self._windows.open(array.place)
                nodes[node] = tuple(window.array(a) if isinstance(a, Parcel) else a for a in arrays)  # type: ignore[union-attr]
        except SharedMemoryError as error:
            _log.debug("worker %s sees the client's memory, but not the other way: %s", address, error)
            known.sees = False
            return None
        wrong = fault(nodes, run, request, self._job)
        if wrong is not None:
            raise _RefusedError(wrong)
        return _Part(address, answer.number, nodes, window)

    async def _is_true(self, gathered: _Gathered) -> bool:
        """Whether sums that are not finite are those of the function: another worker finds them not finite too.

        A single worker is asked again itself. Answers that another worker contradicts are refused.
        """
        doubts = [(part, node) for part in gathered.parts if (node := doubtful(part.nodes)) is not None]
        for part in gathered.parts:
            part.keep()
        is_true = True
        for part, node in doubts:
            present = await self._workers.present(refresh=False)
            others = sorted(set(present) - {part.address}) or sorted(present)
            again = _Gathered(gathered.request)
            run = tuple(leaves(node, self._job.source.n_partitions))
            # The next in order, so that not one alone is asked by all.
            judge = next((a for a in others if a > part.address), others[0])
            await self._ask_all({judge: run}, again)
            if not again.parts:
                is_true = False  # The judge is gone; ask again.
            elif all(is_finite(sums) for sums in again.nodes().values()):
                self._refuse(gathered, part, f"sums that are not finite where worker {judge} finds finite ones")
                is_true = False
        return is_true

    async def _forget(self) -> None:
        known = self._workers.known
        calls = (getattr(self._client.rpc(address), FORGET)(job_id=self._job.id) for address in known)
        # One that is gone has nothing to forget.
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), _FORGET_TIMEOUT_S)
