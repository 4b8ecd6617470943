"""Waits for answers of workers, some of which may be gone, frozen or cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

from hfnumba.engine.cluster.calls import Calls
from hfnumba.engine.cluster.messages import GONE

# At most this share of the time goes into asking the scheduler, unless that would be too rare to notice silence.
_INTERVAL_S, _SHARE = 0.5, 0.01


async def await_answers(
    tasks: Mapping[str, asyncio.Future[Any]],
    present: Callable[[Collection[str]], Awaitable[Collection[str]]],
    calls: Calls,
    silence_s: float,
) -> dict[str, float | None]:
    """Return when all tasks are done; those of workers that are gone or silent are cancelled.

    A connection to a dead process is retried for half a minute; the scheduler notices the death at once. A worker is
    silent if neither data of its call move nor it says that it has the message in hand. So one that computes is heard
    however long that takes, and so is a large message on a slow network; one that is stopped is not, and neither is one
    that a network cuts off, also if only large messages are lost there.

    Parameters
    ----------
    tasks : mapping of str to future
        Pending answers by the addresses of the workers.
    present : callable
        Returns those of some addresses that the scheduler has.
    calls : Calls
        The calls that the tasks make.
    silence_s : float
        Seconds without a sign of life after which a worker is given up.

    Returns
    -------
    dict of str to float or None
        Seconds of silence of the workers that were given up, or None for those that are gone.
    """
    loop = asyncio.get_running_loop()
    heard = dict.fromkeys(tasks, loop.time())
    moved = {address: calls.moved(address) for address in tasks}
    signs: dict[str, asyncio.Future[None]] = {}
    given_up: dict[str, float | None] = {}
    wait_s = interval_s = min(_INTERVAL_S, silence_s / 4)

    async def listen(address: str) -> None:
        with suppress(*GONE):
            # Where data are not counted, any answer has to do.
            if await calls.works(address) or calls.moved(address) is None:
                heard[address] = loop.time()

    try:
        while pending := {a: task for a, task in tasks.items() if not task.done() and a not in given_up}:
            late, paused_s = await _waited(pending.values(), wait_s)
            if not late:
                break
            asked = loop.time()
            heard.update({address: min(at + paused_s, asked) for address, at in heard.items()})
            there = await present(pending)
            wait_s = max(interval_s, min((loop.time() - asked) / _SHARE, silence_s / 4))
            for address, task in pending.items():
                if task.done():
                    continue
                if (count := calls.moved(address)) != moved[address]:
                    heard[address], moved[address] = loop.time(), count
                quiet_s = loop.time() - heard[address]
                if address not in there or quiet_s > silence_s:
                    given_up[address] = quiet_s if address in there else None
                    calls.abort(address)
                    task.cancel()
                elif quiet_s > silence_s / 4 and (address not in signs or signs[address].done()):
                    signs[address] = asyncio.ensure_future(listen(address))
    finally:
        for address, task in tasks.items():
            if not task.done():
                calls.abort(address)
        await _cancel(signs.values())
    return given_up


async def _waited(tasks: Iterable[asyncio.Future[Any]], wait_s: float) -> tuple[set[asyncio.Future[Any]], float]:
    """Wait for tasks; return those that are not done, and how long this process was stopped or too busy to listen."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    _, late = await asyncio.wait(tasks, timeout=wait_s)
    return late, max(0.0, loop.time() - begun - wait_s)


async def _cancel(tasks: Collection[asyncio.Future[Any]]) -> None:
    """Cancel tasks, and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
