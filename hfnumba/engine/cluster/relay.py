"""A worker that relays a round to others and adds their answers, so that the client contacts only a few workers.

The others are asked while the worker computes its own share. What one below lacks it names, and gets from here.
Workers that are gone, silent or wrong are left out of the sum and reported to the client, which has their share redone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from distributed.comm.core import CommClosedError
from distributed.core import ConnectionPool

from hfnumba.engine.cluster.answers import fault, is_finite
from hfnumba.engine.cluster.calls import Calls
from hfnumba.engine.cluster.liveness import await_answers
from hfnumba.engine.cluster.messages import (
    GONE,
    MAX_EXCHANGES,
    Answer,
    Branch,
    Lost,
    RefusedError,
    RoundMessage,
)
from hfnumba.engine.protocol import Problem, Round
from hfnumba.engine.tree import Node, join
from hfnumba.errors import HfnumbaError, sentence


@dataclass(frozen=True)
class Supply:
    """What a relay has for the workers below it: the problem and all live vectors."""

    problem: Problem
    vectors: Mapping[str, Any]


async def ask_below(message: RoundMessage, supply: Supply, pool: ConnectionPool, scheduler: Any) -> list[Answer | Lost]:
    """Return the answer of each worker just below, or the reason for its absence."""
    calls = Calls(pool)
    tasks = {branch.address: asyncio.ensure_future(_ask(branch, message, supply, calls)) for branch in message.below}

    async def present(some: Collection[str]) -> Collection[str]:
        try:
            # Meanwhile nobody listens to the workers.
            limit_s = message.silence_s / 4
            there: dict[str, int] = await asyncio.wait_for(scheduler.ncores(workers=list(some)), limit_s)
        except GONE:
            return some  # The client will notice.
        return there

    try:
        given_up = await await_answers(tasks, present, calls, message.silence_s)
    finally:
        for task in tasks.values():
            task.cancel()
        found = await asyncio.gather(*tasks.values(), return_exceptions=True)
    return [_outcome(address, result, given_up) for address, result in zip(tasks, found, strict=True)]


def _outcome(address: str, result: Answer | BaseException, given_up: Mapping[str, float | None]) -> Answer | Lost:
    if isinstance(result, Answer):
        return result
    if address in given_up:
        return Lost.after(address, given_up[address])
    if isinstance(result, HfnumbaError):
        return Answer(-1, error=result)
    if isinstance(result, GONE):
        return Lost(address, sentence(result))
    why = str(result) if isinstance(result, RefusedError) else f"an answer that could not be read: {result!r}"
    return Lost(address, why, refused=True)


async def _ask(branch: Branch, message: RoundMessage, supply: Supply, calls: Calls) -> Answer:
    for _ in range(MAX_EXCHANGES):
        answer = await calls.exchange(branch.address, message.relayed(branch, supply.vectors, supply.problem))
        if not answer.lacks:
            wrong = _fault(answer, branch, message, supply)
            if wrong is not None:
                raise RefusedError(wrong)
            return answer
        # A worker without the problem has no vectors either.
        lacks = message.live if answer.lacks_problem else answer.missing
        branch = replace(branch, lacks_problem=answer.lacks_problem, lacks=lacks)
    raise CommClosedError("it repeatedly lost the data sent to it")


def _fault(answer: Answer, branch: Branch, message: RoundMessage, supply: Supply) -> str | None:
    return fault(answer, branch, Round(message.evaluations, supply.vectors), supply.problem)


def combined(
    own: Answer, address: str, found: Sequence[Answer | Lost], message: RoundMessage, supply: Supply
) -> Answer:
    """Combine a worker's own sums and those from below into one answer; sums that are not finite stay apart."""
    problem = supply.problem
    wrong = None if own.error else _fault(own, Branch(address, message.partitions), message, supply)
    if wrong is not None:
        return Answer(message.number, failure=wrong)
    names = [address, *(branch.address for branch in message.below)]
    answers = {name: answer for name, answer in zip(names, (own, *found), strict=True) if isinstance(answer, Answer)}
    error = next((answer.error for answer in answers.values() if answer.error is not None), None)
    if error is not None:
        return Answer(message.number, error=error)
    lost = [one for one in found if isinstance(one, Lost)]
    lost += [one for answer in answers.values() for one in answer.lost]
    apart = [one for answer in answers.values() for one in answer.apart]
    nodes, finite = _joined(answers, problem)
    if not finite:
        doubtful = [name for name, answer in answers.items() if not all(map(is_finite, answer.sums.values()))]
        apart += [(name, answers.pop(name).sums) for name in doubtful]
        nodes, _ = _joined(answers, problem)
    n_recomputed = own.n_recomputed + sum(one.n_recomputed for one in found if isinstance(one, Answer))
    return Answer(message.number, nodes, apart=tuple(apart), lost=tuple(lost), n_recomputed=n_recomputed)


def _joined(answers: Mapping[str, Answer], problem: Problem) -> tuple[dict[Node, Any], bool]:
    return join({node: sums for a in answers.values() for node, sums in a.sums.items()}, problem.source.n_partitions)
