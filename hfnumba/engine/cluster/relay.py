"""A worker that passes a round on to others and adds what they answer, so that the client talks to a few only.

The others are asked while the worker computes its own share. What one below lacks it names, and gets from here. One
that is gone, silent or wrong is left out of the sum and told to the client, who has its share redone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from distributed.comm.core import CommClosedError

from hfnumba.engine.cluster.answers import fault, is_finite
from hfnumba.engine.cluster.liveness import watch
from hfnumba.engine.cluster.messages import GONE, MAX_EXCHANGES, Answer, Branch, Lost, RefusedError, Request, exchange
from hfnumba.engine.host import Job
from hfnumba.engine.protocol import Round
from hfnumba.engine.tree import Node, join
from hfnumba.errors import HfnumbaError

Rpc = Callable[[str], Any]


@dataclass(frozen=True)
class Supply:
    """What a relay has for those below: the job and all live vectors."""

    job: Job
    vectors: Mapping[str, Any]


async def ask_below(request: Request, supply: Supply, rpc: Rpc, scheduler: Any) -> list[Answer | Lost]:
    """The answer of each worker just below, or why there is none."""
    tasks = {branch.address: asyncio.ensure_future(_ask(branch, request, supply, rpc)) for branch in request.below}

    async def present(some: Collection[str]) -> Collection[str]:
        try:
            there: dict[str, int] = await scheduler.ncores(workers=list(some))
        except GONE:
            return some  # The client will notice, and say so.
        return there

    try:
        given_up = await watch(tasks, present, rpc, request.silence_s)
    finally:
        for task in tasks.values():
            task.cancel()
        found = await asyncio.gather(*tasks.values(), return_exceptions=True)
    return [_outcome(address, result, given_up) for address, result in zip(tasks, found, strict=True)]


def _outcome(address: str, result: Answer | BaseException, given_up: Mapping[str, float | None]) -> Answer | Lost:
    if isinstance(result, RefusedError):
        return Lost(address, str(result), refused=True)
    if isinstance(result, HfnumbaError):
        return Answer(-1, error=result)
    if isinstance(result, asyncio.CancelledError):
        quiet_s = given_up.get(address)
        return Lost(
            address, "it left" if quiet_s is None else f"silent for {quiet_s:.0f} s", silent=quiet_s is not None
        )
    if isinstance(result, GONE):
        return Lost(address, str(result))
    if isinstance(result, BaseException):
        return Lost(address, f"what could not be read: {result!r}", refused=True)
    return result


async def _ask(branch: Branch, request: Request, supply: Supply, rpc: Rpc) -> Answer:
    for _ in range(MAX_EXCHANGES):
        answer = await exchange(rpc, branch.address, request.passed_on(branch, supply.vectors, supply.job))
        if not answer.lacks:
            wrong = _fault(answer, branch, request, supply)
            if wrong is not None:
                raise RefusedError(wrong)
            return answer
        # A worker without the job has no vectors either.
        lacks = request.live if answer.lacks_job else answer.missing
        branch = replace(branch, lacks_job=answer.lacks_job, lacks=lacks)
    raise CommClosedError("it keeps nothing of what it is sent")


def _fault(answer: Answer, branch: Branch, request: Request, supply: Supply) -> str | None:
    return fault(answer, branch, Round(request.evaluations, supply.vectors), supply.job)


def combined(own: Answer, address: str, found: Sequence[Answer | Lost], request: Request, supply: Supply) -> Answer:
    """One answer of a worker's own sums and of those from below; sums that are not finite stay apart."""
    job = supply.job
    wrong = None if own.error else _fault(own, Branch(address, request.partitions), request, supply)
    if wrong is not None:
        return Answer(request.number, failure=wrong)
    names = [address, *(branch.address for branch in request.below)]
    answers = {name: answer for name, answer in zip(names, (own, *found), strict=True) if isinstance(answer, Answer)}
    error = next((answer.error for answer in answers.values() if answer.error is not None), None)
    if error is not None:
        return Answer(request.number, error=error)
    lost = [one for one in found if isinstance(one, Lost)]
    lost += [one for answer in answers.values() for one in answer.lost]
    apart = [one for answer in answers.values() for one in answer.apart]
    nodes, finite = _joined(answers, job)
    if not finite:
        doubtful = [name for name, answer in answers.items() if not all(map(is_finite, answer.sums.values()))]
        apart += [(name, answers.pop(name).sums) for name in doubtful]
        nodes, _ = _joined(answers, job)
    return Answer(request.number, nodes, apart=tuple(apart), lost=tuple(lost))


def _joined(answers: Mapping[str, Answer], job: Job) -> tuple[dict[Node, Any], bool]:
    return join({node: sums for a in answers.values() for node, sums in a.sums.items()}, job.source.n_partitions)
