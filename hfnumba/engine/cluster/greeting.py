"""Greetings of new workers: what computes there, whether it starts yet, and since when it has not answered."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from distributed import Client
from distributed.protocol.pickle import dumps

from hfnumba.engine.cluster.messages import GONE, GREET
from hfnumba.engine.cluster.shared_memory import Box, SharedMemoryError
from hfnumba.engine.cluster.worker import RoundPlugin
from hfnumba.errors import sentence

_log = logging.getLogger(__name__)
_GREETING_TIMEOUT_S = 5.0
# Time without an answer after which a worker is replaced that has never answered. While it imports packages it cannot,
# which takes minutes on a busy machine with a slow disk.
_START_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Greeting:
    """Answer of a worker that has started, or the reason why it cannot be used."""

    name: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    arithmetic: str = ""
    shares_memory: bool = False
    failure: str | None = None


class Greetings:
    """Greetings in progress and their answers; also gives the workers what they need to answer.

    Parameters
    ----------
    client : distributed.Client
    silence_s : float
        Seconds without a sign of life after which a worker is replaced that has answered before.
    shared_memory : bool
        Whether to look for workers that share memory with this process.

    Attributes
    ----------
    heard_at : float
        Time of the last answer of any worker, by ``time.monotonic``.
    """

    def __init__(self, client: Client, silence_s: float, shared_memory: bool) -> None:
        self.heard_at = -float("inf")
        self._client, self._silence_s = client, silence_s
        self._tasks: dict[str, asyncio.Future[Greeting | None]] = {}
        # Times since which workers have not answered; those that have answered that they start, or finished that.
        self._unanswered: dict[str, float] = {}
        self._starting: set[str] = set()
        self._started: set[str] = set()
        self._registration: asyncio.Future[Any] | None = None
        try:
            self._probe: Box | None = Box(0) if shared_memory else None
        except SharedMemoryError as error:
            _log.debug("vectors travel by the network: %s", error)
            self._probe = None

    async def send(self, addresses: Collection[str], wait_s: float) -> dict[str, Greeting]:
        """Greet workers, and return the answers that have come; a slow one does not delay the others."""
        if self._registration is None:
            self._registration = asyncio.ensure_future(self._client.register_plugin(RoundPlugin()))
            self._registration.add_done_callback(_retrieve)
            # Waited for only briefly, since a killed or frozen worker would hold it up. A worker logs a greeting that
            # comes earlier as an unknown operation.
            await asyncio.wait([self._registration], timeout=wait_s)
        self._unanswered = {a: since for a, since in self._unanswered.items() if a in addresses}
        self._starting &= set(addresses)
        for address in addresses:
            if address not in self._tasks:
                self._unanswered.setdefault(address, time.monotonic())
                self._tasks[address] = asyncio.ensure_future(self._greet(address))
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=wait_s)
        done = {address: task.result() for address, task in self._tasks.items() if task.done()}
        self._tasks = {address: task for address, task in self._tasks.items() if address not in done}
        return {address: answer for address, answer in done.items() if answer is not None and address in addresses}

    def expected(self, there: Collection[str]) -> bool:
        """Whether one of some workers starts, or may still answer; one that has been silent for too long may not."""
        recent = time.monotonic() - self._silence_s
        silent = {address for address, since in self._unanswered.items() if since <= recent}
        return bool((self._starting | set(self._unanswered)) & set(there) - silent)

    def silent(self) -> list[str]:
        """Workers that have not answered for too long; their time begins anew."""
        now = time.monotonic()
        found = []
        for address, since in self._unanswered.items():
            known = address in self._started
            if now - since > (self._silence_s if known else max(self._silence_s, _START_TIMEOUT_S)):
                found.append(address)
        for address in found:
            self._unanswered[address] = now
        return found

    async def _greet(self, address: str) -> Greeting | None:
        """Return a worker's answer; None if there is none, or it starts yet."""
        probe = None if self._probe is None else list(self._probe.place)
        try:
            call = getattr(self._client.rpc(address), GREET)(probe=probe)
            answer = await asyncio.wait_for(call, max(_GREETING_TIMEOUT_S, self._silence_s / 4))
            # Dask answers None where there is no such handler.
            if answer is None and self._registration is not None and self._registration.done():
                await self._set_up(address)
        except GONE as error:
            _log.debug("worker %s does not answer yet: %s", address, error)
            return None
        except Exception as error:
            return Greeting(failure=f"cannot use this version of hfnumba ({sentence(error)}); install the same there")
        self.heard_at = time.monotonic()
        self._unanswered.pop(address, None)
        if answer is None or answer.get("starts"):
            self._starting.add(address)
            return None
        self._starting.discard(address)
        if (failure := answer.get("failure")) is not None:
            return Greeting(failure=str(failure))
        self._started.add(address)
        return Greeting(answer["name"], answer["versions"], answer["arithmetic"], bool(answer["sees"]))

    async def _set_up(self, address: str) -> None:
        """Give a worker the handler that has missed it when all got it."""
        call = getattr(self._client.rpc(address), "plugin-add")(plugin=dumps(RoundPlugin()), name=RoundPlugin.name)
        await asyncio.wait_for(call, _START_TIMEOUT_S)


def _retrieve(registration: asyncio.Future[Any]) -> None:
    """Log a failure: the workers that it concerns are set up one by one."""
    if not registration.cancelled() and (error := registration.exception()) is not None:
        _log.debug("not all workers could be set up together: %s", error)
