"""Waiting for workers of which some may be gone, frozen or cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

# At most this share of the time goes into asking the scheduler.
_WATCH_S, _SHARE = 0.5, 0.01


async def watch(
    tasks: Mapping[str, asyncio.Future[Any]],
    present: Callable[[Collection[str]], Awaitable[Collection[str]]],
    rpc: Callable[[str], Any],
    silence_s: float,
) -> dict[str, float | None]:
    """Return when all tasks are done; those of workers that are gone or silent are cancelled.

    A connection to a dead process is retried for half a minute; the scheduler hears of the death at once. A worker
    that computes answers when it is asked who it is; one that is stopped or cut off does not.

    Parameters
    ----------
    tasks : mapping of str to future
        By the addresses of the workers.
    present : callable
        Those of some addresses that the scheduler knows.
    rpc : callable
        Calls to an address.
    silence_s : float
        How long a worker may give no sign of life.

    Returns
    -------
    dict of str to float or None
        The workers that were given up: the seconds of silence, or None for those that are gone.
    """
    loop = asyncio.get_running_loop()
    heard = dict.fromkeys(tasks, loop.time())
    signs: dict[str, asyncio.Future[None]] = {}
    given_up: dict[str, float | None] = {}
    wait_s = _WATCH_S

    async def listen(address: str) -> None:
        await rpc(address).identity()
        heard[address] = loop.time()

    try:
        while pending := {a: task for a, task in tasks.items() if not task.done() and a not in given_up}:
            _, late = await asyncio.wait(pending.values(), timeout=wait_s)
            if not late:
                break
            asked = loop.time()
            there = await present(pending)
            wait_s = max(_WATCH_S, (loop.time() - asked) / _SHARE)
            for address, task in pending.items():
                if task.done():
                    continue
                quiet_s = loop.time() - heard[address]
                if address not in there or quiet_s > silence_s:
                    given_up[address] = quiet_s if address in there else None
                    task.cancel()
                elif quiet_s > silence_s / 4 and (address not in signs or signs[address].done()):
                    signs[address] = asyncio.ensure_future(listen(address))
    finally:
        for sign in signs.values():
            sign.cancel()
        await asyncio.gather(*signs.values(), return_exceptions=True)
    return given_up
