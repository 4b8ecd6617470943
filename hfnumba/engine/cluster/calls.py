"""Calls of a round to workers, and their signs of life: data that move, or a worker that has the message in hand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from distributed.comm.core import Comm, CommClosedError
from distributed.core import ConnectionPool

from hfnumba.engine.cluster.messages import OPERATION, WORKING, Answer, RefusedError, RoundMessage, packed, unpacked
from hfnumba.linux import transferred


class Calls:
    """Calls of one attempt at a round, at most one to a worker at a time.

    Parameters
    ----------
    pool : distributed.core.ConnectionPool
        Connections of this process; called with an address it makes calls to it.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        # What each worker was asked last: problem and number of the message.
        self._sent: dict[str, tuple[str, int]] = {}

    async def exchange(self, address: str, message: RoundMessage) -> Answer:
        """Send a message and return the answer to it.

        Raises
        ------
        CommClosedError, OSError
            If the worker is gone.
        RefusedError
            If what came cannot be the answer.
        HfnumbaError
            If the worker raised it.
        """
        self._sent[address] = message.problem_id, message.number
        answer = unpacked(await getattr(self._pool(address), OPERATION)(request=packed(message)))
        if answer is None:
            raise CommClosedError("it no longer serves rounds")
        if not isinstance(answer, Answer) or answer.number != message.number:
            raise RefusedError("a stale answer")
        if answer.error is not None:
            raise answer.error
        if answer.failure is not None:
            raise RefusedError(f"no answer but {answer.failure}")
        return answer

    def moved(self, address: str) -> list[tuple[int, int]] | None:
        """Return the bytes that have come and gone on the connection of the call; None where they are not counted."""
        counts = []
        for comm in _connections(self._pool, address, OPERATION):
            connection = getattr(getattr(comm, "stream", None), "socket", None)
            count = None if connection is None else transferred(connection)
            if count is None:
                return None
            counts.append(count)
        return counts

    async def works(self, address: str) -> bool:
        """Whether the worker has the message in hand: received, and not answered yet."""
        problem_id, number = self._sent.get(address, ("", -1))
        return bool(await getattr(self._pool(address), WORKING)(problem_id=problem_id, number=number))

    def abort(self, address: str) -> None:
        """Close the connections of the call at once."""
        abort(self._pool, address, OPERATION, WORKING)


def abort(pool: ConnectionPool, address: str, *operations: str) -> None:
    """Close the connections of calls at once; closed in order, they would wait for what cannot be sent."""
    for comm in _connections(pool, address, *operations):
        comm.abort()


async def call_all(
    pool: ConnectionPool, addresses: Iterable[str], operation: str, timeout_s: float, **arguments: Any
) -> list[Any]:
    """Return the answers of workers to one message; where there is none in time, an error instead."""
    calls = {address: asyncio.ensure_future(getattr(pool(address), operation)(**arguments)) for address in addresses}
    if calls:
        await asyncio.wait(calls.values(), timeout=timeout_s)
    for address, call in calls.items():
        if not call.done():
            abort(pool, address, operation)
            call.cancel()
    return await asyncio.gather(*calls.values(), return_exceptions=True)


def _connections(pool: ConnectionPool, address: str, *operations: str) -> list[Comm]:
    return [comm for comm in pool.occupied.get(address, ()) if str(comm.name).endswith(operations)]
