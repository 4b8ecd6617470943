"""Rounds over the workers of a Dask cluster.

Partitions are assigned to workers in contiguous runs. A round is one direct call to each worker, or to a few that
pass it on (:mod:`hfnumba.engine.cluster.relay`); the answers are whole subtrees of the summation tree. A worker that is
gone or silent loses its partitions to the others, which redo only those; so does one whose answer cannot be right. What
is redone is asked for directly. The scheduler is asked only which workers there are.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from distributed import Client
from distributed.comm.core import CommClosedError
from numpy.typing import NDArray

from hfnumba.engine.cluster.answers import Gathered, Part, doubtful, fault, is_finite
from hfnumba.engine.cluster.assignment import arrange, assign
from hfnumba.engine.cluster.membership import Known, Workers
from hfnumba.engine.cluster.messages import (
    DONE,
    FORGET,
    GONE,
    MAX_EXCHANGES,
    Answer,
    Branch,
    Lost,
    RefusedError,
    Request,
    exchange,
)
from hfnumba.engine.cluster.shared_memory import Parcel, SharedMemoryError, VectorBoxes, Windows
from hfnumba.engine.cluster.worker import RoundPlugin
from hfnumba.engine.host import Job
from hfnumba.engine.protocol import Round
from hfnumba.engine.tree import Node, Sums, add_up, leaves
from hfnumba.errors import ClusterError, UsageError

_log = logging.getLogger(__name__)
# Where the client's link is what limits, the fewest messages one after another but for 4, which needs more levels; see
# docs/scaling.md.
FAN_IN = 8
_FORGET_TIMEOUT_S, _DONE_TIMEOUT_S = 10.0, 5.0
_MAX_ATTEMPTS = 50
# Partitions whose answers are refused are given to others so often within one round.
_MAX_REFUSED = 3


class DaskEngine:
    """Evaluates every partition on the workers.

    Parameters
    ----------
    job : Job
    client : distributed.Client
    timeout_s : float
        How long a worker may give no sign of life during a round before its partitions go to others.
    fan_in : int
        How many workers the client talks to directly; with more of them each passes requests on to others, to as many
        at most, and adds what they answer. Workers that see the client's memory are always asked directly.
    shared_memory : bool
        Whether to use memory that client and workers see (:mod:`hfnumba.engine.cluster.shared_memory`) where there is
        any; otherwise vectors and sums travel with the messages, as they do between machines.
    """

    def __init__(
        self, job: Job, client: Client, timeout_s: float, fan_in: int = FAN_IN, shared_memory: bool = True
    ) -> None:
        if fan_in < 1:
            raise UsageError(f"fan_in must be at least 1, got {fan_in}")
        self._job, self._client, self._fan_in = job, client, fan_in
        self._numbers = itertools.count()
        self._workers = Workers(client, timeout_s, shared_memory)
        self._boxes, self._windows = VectorBoxes(), Windows()
        client.register_plugin(RoundPlugin())

    def run(self, request: Round) -> Sums:
        """The sums of a round. Raises ClusterError if no worker is left, or answers stay unusable."""
        gathered = Gathered(request)
        self._boxes.keep(request.vectors)
        while True:
            self._client.sync(self._gather, gathered)
            # Here and not on the client's event loop, whose thread would get fresh memory for each sum.
            total, finite = add_up(gathered.nodes(), self._job.source.n_partitions, request.divisors)
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

    def done(self) -> int:
        """Partitions of the round under way that the workers say are computed."""
        return sum(n for n in self._client.sync(self._tell_all, DONE, _DONE_TIMEOUT_S) if isinstance(n, int))

    def close(self) -> None:
        """Let the workers drop this job's rows."""
        if self._client.status == "running":
            self._client.sync(self._tell_all, FORGET, _FORGET_TIMEOUT_S)

    async def _gather(self, gathered: Gathered) -> None:
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
            await self._ask_all(self._branches(runs, gathered.request, relayed=not there), gathered)
        raise ClusterError(
            f"workers were lost {_MAX_ATTEMPTS} times within one round; see the workers' logs, then use --resume"
        )

    def _branches(self, runs: Mapping[str, tuple[int, ...]], request: Round, relayed: bool) -> tuple[Branch, ...]:
        """Whom to ask for which partitions, and whom they pass it on to."""
        direct: list[Branch] = []
        others: list[Branch] = []
        for address, run in runs.items():
            known = self._workers.known.get(address)
            if known is None:
                continue  # Lost since; its partitions are asked for again.
            lacks = tuple(name for name in request.vectors if name not in known.vectors)
            branch = Branch(address, run, lacks, not known.job)
            (direct if known.sees or not relayed else others).append(branch)
        return (*direct, *arrange(others, self._fan_in))

    async def _ask_all(self, branches: Iterable[Branch], gathered: Gathered) -> None:
        """One attempt: a call to each worker, and whatever of it comes back."""
        tasks = {branch.address: asyncio.ensure_future(self._ask(branch, gathered.request)) for branch in branches}
        try:
            await self._workers.watch(tasks)
        finally:
            for task in tasks.values():
                task.cancel()
            found = await asyncio.gather(*tasks.values(), return_exceptions=True)
        for address, result in zip(tasks, found, strict=True):
            if isinstance(result, RefusedError):
                self._refuse(gathered, Part(address, -1, {}), str(result))
            elif isinstance(result, GONE):
                self._workers.lose(address, str(result))
            elif isinstance(result, tuple):
                parts, lost = result
                gathered.parts += parts
                self._lose(gathered, lost)
            elif not isinstance(result, asyncio.CancelledError):
                raise result

    def _lose(self, gathered: Gathered, lost: Iterable[Lost]) -> None:
        """Take note of what a relay has to say of those below it."""
        for one in lost:
            if one.refused:
                self._refuse(gathered, Part(one.address, -1, {}), one.why)
            else:
                self._workers.lose(one.address, one.why, one.silent)

    def _refuse(self, gathered: Gathered, part: Part, why: str) -> None:
        """Forget an answer, and replace who gave it."""
        gathered.parts = [other for other in gathered.parts if other is not part]
        gathered.n_refused += 1
        gathered.last_reason = f"worker {part.address} gave {why}"
        self._client.loop.add_callback(self._workers.refuse, part.address, why)

    async def _ask(self, branch: Branch, request: Round) -> tuple[list[Part], tuple[Lost, ...]]:
        """The answers for one worker's partitions and for those of the workers below it, and who gave none."""
        for _ in range(MAX_EXCHANGES):
            known = self._workers.known.get(branch.address)
            if known is None:
                break
            message = self._message(branch, known, request)
            for member in branch.members():
                if (one := self._workers.known.get(member.address)) is not None:
                    one.job, one.vectors = True, set(request.vectors)
            answer = await exchange(self._client.rpc, branch.address, message)
            if not answer.lacks:
                parts = self._opened(branch, known, request, answer)
                if parts is not None:
                    return parts, answer.lost
            known.job, known.sees = not answer.lacks_job, known.sees and not answer.lacks_sight
            known.vectors -= set(answer.missing) or known.vectors.copy()
            lacks = tuple(name for name in request.vectors if name not in known.vectors)
            branch = replace(branch, lacks=lacks, lacks_job=not known.job)
        raise CommClosedError("it keeps nothing of what it is sent")

    def _message(self, branch: Branch, known: Known, request: Round) -> Request:
        vectors: dict[str, Parcel | NDArray[Any]] = {}
        for name in branch.lacks:
            vectors[name] = request.vectors[name]
            if known.sees:
                try:
                    vectors[name] = self._boxes.parcel(name, request.vectors[name])
                except SharedMemoryError as error:
                    _log.debug("a vector travels by itself: %s", error)
        return Request(
            next(self._numbers),
            self._job.id,
            request.evaluations,
            branch.partitions,
            tuple(request.vectors),
            vectors,
            self._job if branch.lacks_job else None,
            self._boxes.tokens() if known.sees else None,
            branch.below,
            self._workers.silence_s,
        )

    def _opened(self, branch: Branch, known: Known, request: Round, answer: Answer) -> list[Part] | None:
        """An answer's parts with their arrays, checked; None if its box cannot be opened."""
        window = None
        nodes: dict[Node, Sums] = {}
        try:
            for node, arrays in answer.nodes.items():
                for array in arrays:
                    if isinstance(array, Parcel):
                        window = self._windows.open(array.place)
                nodes[node] = tuple(window.array(a) if isinstance(a, Parcel) else a for a in arrays)  # type: ignore[union-attr]
        except SharedMemoryError as error:
            _log.debug("worker %s sees the client's memory, but not the other way: %s", branch.address, error)
            known.sees = False
            return None
        wrong = fault(replace(answer, nodes=nodes), branch, request, self._job)
        if wrong is not None:
            raise RefusedError(wrong)
        apart = [Part(address, answer.number, dict(nodes)) for address, nodes in answer.apart]
        return [Part(branch.address, answer.number, nodes, window), *apart]

    async def _is_true(self, gathered: Gathered) -> bool:
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
            again = Gathered(gathered.request)
            run = tuple(leaves(node, self._job.source.n_partitions))
            # The next in order, so that not one alone is asked by all.
            judge = next((a for a in others if a > part.address), others[0])
            await self._ask_all(self._branches({judge: run}, gathered.request, relayed=False), again)
            if not again.parts:
                is_true = False  # The judge is gone; ask again.
            elif all(is_finite(sums) for sums in again.nodes().values()):
                self._refuse(gathered, part, f"sums that are not finite where worker {judge} finds finite ones")
                is_true = False
        return is_true

    async def _tell_all(self, operation: str, timeout_s: float) -> list[Any]:
        """What the workers answer to a message about this job; one that is gone has nothing to say or to forget."""
        calls = (getattr(self._client.rpc(address), operation)(job_id=self._job.id) for address in self._workers.known)
        try:
            return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), timeout_s)
        except TimeoutError:
            return []
