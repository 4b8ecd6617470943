"""Waits for answers of workers, some of which may be gone, frozen or cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

# At most this share of the time goes into asking the scheduler.
_INTERVAL_S, _SHARE = 0.5, 0.01


async def await_answers(
    tasks: Mapping[str, asyncio.Future[Any]],
    present: Callable[[Collection[str]], Awaitable[Collection[str]]],
    rpc: Callable[[str], Any],
    silence_s: float,
) -> dict[str, float | None]:
    """Return when all tasks are done; those of workers that are gone or silent are cancelled.

    A connection to a dead process is retried for half a minute; the scheduler notices the death at once. A worker
    that computes answers a request for its identity; one that is stopped or cut off does not.

    Parameters
    ----------
    tasks : mapping of str to future
        Pending answers by the addresses of the workers.
    present : callable
        Returns those of some addresses that the scheduler has.
    rpc : callable
        Opens calls to an address.
    silence_s : float
        Seconds without a sign of life after which a worker is given up.

    Returns
    -------
    dict of str to float or None
        Seconds of silence of the workers that were given up, or None for those that are gone.
    """
    loop = asyncio.get_running_loop()
    heard = dict.fromkeys(tasks, loop.time())
    signs: dict[str, asyncio.Future[None]] = {}
    given_up: dict[str, float | None] = {}
    wait_s = _INTERVAL_S

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
            wait_s = max(_INTERVAL_S, (loop.time() - asked) / _SHARE)
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
