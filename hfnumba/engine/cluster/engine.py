"""Rounds over the workers of a Dask cluster.

Partitions are assigned to workers in contiguous runs. A round is one direct call to each worker, or to a few that
relay it (:mod:`hfnumba.engine.cluster.relay`); the answers are whole subtrees of the summation tree. The partitions of
a worker that is gone or silent, or whose answer cannot be right, go to the others, which compute only those. These are
asked directly. The scheduler is asked only for its workers.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from distributed import Client
from distributed.comm.core import CommClosedError
from numpy.typing import NDArray

from hfnumba.engine.cluster.answers import RoundInProgress, WorkerAnswer, doubtful, fault, is_finite
from hfnumba.engine.cluster.assignment import arrange, assign
from hfnumba.engine.cluster.calls import Calls, call_all
from hfnumba.engine.cluster.client import check_client, refuse_fork
from hfnumba.engine.cluster.losses import least_lost
from hfnumba.engine.cluster.membership import Workers, WorkerState
from hfnumba.engine.cluster.messages import (
    DONE,
    FORGET,
    GONE,
    MAX_EXCHANGES,
    Answer,
    Branch,
    Lost,
    RefusedError,
    RoundMessage,
)
from hfnumba.engine.cluster.shared_memory import Parcel, SharedMemoryError, VectorBoxes, Windows
from hfnumba.engine.memory import RecomputationNote
from hfnumba.engine.protocol import Problem, Round
from hfnumba.engine.tree import Node, Sums, add_up, leaves
from hfnumba.errors import ClusterError, UsageError, sentence
from hfnumba.stop import end_if_stopped

_log = logging.getLogger(__name__)
# Where the client's link is what limits, the fewest messages one after another but for 4, which needs more levels; see
# docs/scaling.md.
FAN_IN = 8
_FORGET_TIMEOUT_S, _DONE_TIMEOUT_S = 3.0, 3.0
_MAX_ATTEMPTS = 50
# Answers that may be refused within one round.
_MAX_REFUSED = 3


class DaskEngine:
    """Evaluates every partition on the workers.

    Parameters
    ----------
    problem : Problem
    client : distributed.Client
    timeout_s : float
        Seconds without a sign of life during a round after which a worker's partitions go to others.
    fan_in : int
        Maximum number of workers contacted directly by the client and by each relaying worker. Workers that share
        memory with the client are always asked directly.
    shared_memory : bool
        Whether to use memory that client and workers share (:mod:`hfnumba.engine.cluster.shared_memory`) where there is
        any; otherwise vectors and sums travel with the messages, as they do between machines.
    """

    def __init__(
        self, problem: Problem, client: Client, timeout_s: float, fan_in: int = FAN_IN, shared_memory: bool = True
    ) -> None:
        if fan_in < 1:
            raise UsageError(f"expected fan_in to be at least 1, got {fan_in}; {FAN_IN} is the default")
        check_client(client)
        self._problem, self._client, self._fan_in = problem, client, fan_in
        self._numbers = itertools.count()
        self._workers = Workers(client, timeout_s, shared_memory)
        self._boxes, self._windows = VectorBoxes(), Windows()
        self._note = RecomputationNote()
        self._process = os.getpid()

    def run(self, request: Round) -> Sums:
        """Return the sums of a round. Raises ClusterError if no worker is left, or answers stay unusable."""
        refuse_fork(self._process)
        current, n = RoundInProgress(request), self._problem.source.n_partitions
        self._boxes.retain(request.vectors)
        while True:
            self._client.sync(self._collect, current)
            # Here and not on the client's event loop, whose thread would get fresh memory for each sum.
            total, finite = add_up(current.nodes(), n, request.divisors)
            overwritten = [answer for answer in current.answers if not answer.is_intact()]
            for answer in overwritten:
                self._refuse(current, answer, "a stale answer")
            if not overwritten and (finite or self._client.sync(self._is_true, current)):
                self._windows.retain({one.window.token for one in current.answers if one.window is not None})
                self._note.check(sum(one.n_recomputed for one in current.answers), n)
                return total

    def sharing(self) -> tuple[int, int]:
        """Return the numbers of workers that share memory with the client, and of all."""
        refuse_fork(self._process)
        self._client.sync(self._workers.present, True)
        states = self._workers.states.values()
        return sum(state.shares_memory for state in states), len(states)

    def done(self) -> int:
        """Return the number of partitions of the current round that are computed."""
        return sum(n for n in self._client.sync(self._call_all, DONE, _DONE_TIMEOUT_S) if isinstance(n, int))

    def close(self) -> None:
        """Have the workers drop this problem's rows."""
        if self._client.status == "running" and self._process == os.getpid():
            self._client.sync(self._call_all, FORGET, _FORGET_TIMEOUT_S)

    async def _collect(self, current: RoundInProgress) -> None:
        """Ask until every partition's sum is there."""
        n = self._problem.source.n_partitions
        for attempt in range(_MAX_ATTEMPTS):
            there = {j for answer in current.answers for node in answer.nodes for j in leaves(node, n)}
            todo = [j for j in range(n) if j not in there]
            if not todo:
                return
            if attempt or there:
                end_if_stopped()
                _log.warning("%d partitions are computed again by other workers", len(todo))
                for answer in current.answers:
                    answer.copy_from_box()
            if current.n_refused >= _MAX_REFUSED:
                raise ClusterError(
                    f"{current.last_reason}; that was the third unusable answer in one round, so a hardware fault is "
                    "unlikely; see the workers' logs"
                )
            runs = assign(todo, await self._fit(bool(attempt or there), current))
            await self._ask_all(self._branches(runs, current.request, relayed=not there), current)
        raise ClusterError(
            f"workers were lost {_MAX_ATTEMPTS} times within one round; see the workers' logs, then use --resume"
        )

    async def _fit(self, refresh: bool, current: RoundInProgress) -> Mapping[str, int]:
        """Return the workers that have been lost least often in this round, with their threads."""
        present = await self._workers.present(refresh)
        if not current.losses:
            return present
        return least_lost(present, {a: current.losses[self._workers.name(a)] for a in present}, current.last_reason)

    def _branches(self, runs: Mapping[str, tuple[int, ...]], request: Round, relayed: bool) -> tuple[Branch, ...]:
        """Return the workers to ask, with their partitions and the workers that they relay the round to."""
        direct: list[Branch] = []
        others: list[Branch] = []
        for address, run in runs.items():
            state = self._workers.states.get(address)
            if state is None:
                continue  # Lost since; its partitions are asked for again.
            lacks = tuple(name for name in request.vectors if name not in state.vectors)
            branch = Branch(address, run, lacks, not state.has_problem)
            (direct if state.shares_memory or not relayed else others).append(branch)
        return (*direct, *arrange(others, self._fan_in))

    async def _ask_all(self, branches: Iterable[Branch], current: RoundInProgress) -> None:
        """One attempt: call each worker, and collect the answers."""
        calls, asked = Calls(self._client.rpc), {branch.address: branch for branch in branches}
        tasks = {a: asyncio.ensure_future(self._ask(branch, current.request, calls)) for a, branch in asked.items()}
        try:
            given_up = await self._workers.await_answers(tasks, calls)
        finally:
            for task in tasks.values():
                task.cancel()
            found = await asyncio.gather(*tasks.values(), return_exceptions=True)
        for address, result in zip(tasks, found, strict=True):
            if isinstance(result, tuple):
                answers, lost = result
                current.answers += answers
                for member in asked[address].members([one.address for one in lost]):
                    self._workers.answered(member.address)
                self._lose(current, lost)
            elif address in given_up:
                self._lose(current, [Lost.after(address, given_up[address])])
            elif isinstance(result, RefusedError):
                self._refuse(current, WorkerAnswer(address, -1, {}), str(result))
            elif isinstance(result, GONE):
                self._lose(current, [Lost(address, sentence(result))])
            elif not isinstance(result, asyncio.CancelledError):
                raise result

    def _lose(self, current: RoundInProgress, lost: Iterable[Lost]) -> None:
        """Remove workers that a relay reports as lost, or refuse their answers."""
        for one in lost:
            if one.refused:
                self._refuse(current, WorkerAnswer(one.address, -1, {}), one.why)
            else:
                name = self._workers.name(one.address)
                current.losses[name] += 1
                current.last_reason = f"worker {self._workers.known_as(one.address)} is lost: {one.why}"
                self._workers.lose(one.address, one.why, one.silent)

    def _refuse(self, current: RoundInProgress, answer: WorkerAnswer, why: str) -> None:
        """Drop an answer, and replace its worker."""
        current.answers = [other for other in current.answers if other is not answer]
        current.n_refused += 1
        current.last_reason = f"worker {answer.address} gave {why}"
        self._client.loop.add_callback(self._workers.refuse, answer.address, why)

    async def _ask(self, branch: Branch, request: Round, calls: Calls) -> tuple[list[WorkerAnswer], tuple[Lost, ...]]:
        """Return the answers for the partitions of one worker and of those below it, and the workers without one."""
        for _ in range(MAX_EXCHANGES):
            state = self._workers.states.get(branch.address)
            if state is None:
                break
            message = self._message(branch, state, request)
            for member in branch.members():
                if (one := self._workers.states.get(member.address)) is not None:
                    one.has_problem, one.vectors = True, set(request.vectors)
            answer = await calls.exchange(branch.address, message)
            if not answer.lacks:
                answers = self._opened(branch, state, request, answer)
                if answers is not None:
                    return answers, answer.lost
            state.has_problem = not answer.lacks_problem
            state.shares_memory &= not answer.lacks_boxes
            state.vectors -= set(answer.missing) or state.vectors.copy()
            lacks = tuple(name for name in request.vectors if name not in state.vectors)
            branch = replace(branch, lacks=lacks, lacks_problem=not state.has_problem)
        raise CommClosedError("it repeatedly lost the data sent to it")

    def _message(self, branch: Branch, state: WorkerState, request: Round) -> RoundMessage:
        vectors: dict[str, Parcel | NDArray[Any]] = {}
        for name in branch.lacks:
            vectors[name] = request.vectors[name]
            if state.shares_memory:
                try:
                    vectors[name] = self._boxes.parcel(name, request.vectors[name])
                except SharedMemoryError as error:
                    _log.debug("a vector travels by itself: %s", error)
        return RoundMessage(
            next(self._numbers),
            self._problem.id,
            request.evaluations,
            branch.partitions,
            tuple(request.vectors),
            vectors,
            self._problem if branch.lacks_problem else None,
            self._boxes.tokens() if state.shares_memory else None,
            branch.below,
            self._workers.silence_s,
        )

    def _opened(
        self, branch: Branch, state: WorkerState, request: Round, answer: Answer
    ) -> list[WorkerAnswer] | None:  # fmt: skip
        """Return an answer's sums by worker with their arrays, checked; None if its box cannot be opened."""
        window = None
        nodes: dict[Node, Sums] = {}
        try:
            for node, arrays in answer.nodes.items():
                for array in arrays:
                    if isinstance(array, Parcel):
                        window = self._windows.open(array.place)
                nodes[node] = tuple(window.array(a) if isinstance(a, Parcel) else a for a in arrays)  # type: ignore[union-attr]
        except SharedMemoryError as error:
            _log.debug("worker %s can open the client's boxes, but not the other way: %s", branch.address, error)
            state.shares_memory = False
            return None
        wrong = fault(replace(answer, nodes=nodes), branch, request, self._problem)
        if wrong is not None:
            raise RefusedError(wrong)
        apart = [WorkerAnswer(address, answer.number, dict(sums)) for address, sums in answer.apart]
        return [WorkerAnswer(branch.address, answer.number, nodes, window, answer.n_recomputed), *apart]

    async def _is_true(self, current: RoundInProgress) -> bool:
        """Whether sums that are not finite are those of the function: another worker finds them not finite too.

        A single worker is asked again itself. Answers that another worker contradicts are refused.
        """
        doubts = [(answer, node) for answer in current.answers if (node := doubtful(answer.nodes)) is not None]
        for answer in current.answers:
            answer.copy_from_box()
        is_true = True
        for answer, node in doubts:
            present = await self._fit(False, current)
            others = sorted(set(present) - {answer.address}) or sorted(present)
            again = RoundInProgress(current.request, losses=current.losses)
            run = tuple(leaves(node, self._problem.source.n_partitions))
            # The next in order, so that not one alone is asked by all.
            judge = next((a for a in others if a > answer.address), others[0])
            await self._ask_all(self._branches({judge: run}, current.request, relayed=False), again)
            if not again.answers:
                is_true = False  # The judge is gone; ask again.
            elif all(is_finite(sums) for sums in again.nodes().values()):
                self._refuse(current, answer, f"sums that are not finite where worker {judge} finds finite ones")
                is_true = False
        return is_true

    async def _call_all(self, operation: str, timeout_s: float) -> list[Any]:
        """Return the workers' answers to a message about this problem; errors of workers that are gone among them."""
        return await call_all(self._client.rpc, self._workers.states, operation, timeout_s, problem_id=self._problem.id)
