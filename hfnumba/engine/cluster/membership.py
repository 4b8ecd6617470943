"""The workers that take part: those of the scheduler that have the client's versions and give usable answers."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from distributed import Client
from distributed.comm.core import CommClosedError

from hfnumba.engine.cluster.liveness import await_answers
from hfnumba.engine.cluster.messages import GONE, GREET
from hfnumba.engine.cluster.shared_memory import Box, SharedMemoryError
from hfnumba.errors import ClusterError
from hfnumba.processors import mebibytes
from hfnumba.versions import as_text, difference, installed

_log = logging.getLogger(__name__)
_NO_WORKER_TIMEOUT_S = 60.0
_GREETING_TIMEOUT_S, _RESTART_TIMEOUT_S, _SCHEDULER_TIMEOUT_S = 5.0, 30.0, 30.0
_POLL_S, _REFRESH_S = 0.1, 2.0
# At most this share of the time goes into asking the scheduler for its workers.
_SHARE = 0.01
# Unusable answers after which a worker of one name is left out; its nanny replaces the process each time.
_MAX_REFUSALS = 3
MEMORY_RESTARTS = "worker-restart-memory"
"""Topic of Dask's events about workers that exceed their memory limit."""


def warn_of_restart(event: tuple[float, Mapping[str, Any]]) -> None:
    """Warn of a worker that Dask restarts because of its memory, by the event of the topic above."""
    found = event[1]
    _log.warning(
        "worker %s took %s of memory, which is more than its memory limit allows, and Dask restarts it; give it a "
        "higher limit, start fewer workers on a machine, or limit its rows with --memory",
        *(found["worker"], mebibytes(found["rss"])),
    )


@dataclass
class WorkerState:
    """What a worker has, as far as the client can tell; a mistake costs one more exchange, never a wrong sum.

    Attributes
    ----------
    shares_memory : bool
        Whether client and worker can open each other's boxes.
    name : str
    has_problem : bool
    vectors : set of str
    """

    shares_memory: bool
    name: str
    has_problem: bool = False
    vectors: set[str] = field(default_factory=set)


class Workers:
    """The workers of a client, by address.

    Parameters
    ----------
    client : distributed.Client
    silence_s : float
        Seconds without a sign of life after which a round gives up a worker.
    shared_memory : bool
        Whether to look for workers that share memory with this process.

    Attributes
    ----------
    states : dict of str to WorkerState
        Workers that take part, by address.
    """

    def __init__(self, client: Client, silence_s: float, shared_memory: bool = True) -> None:
        self.states: dict[str, WorkerState] = {}
        self.silence_s = silence_s
        self._client, self._versions = client, installed()
        self._threads: dict[str, int] = {}
        self._ask_at = 0.0
        # Those that are never asked, with the reason; those whose process is being replaced; greetings in progress.
        self._left_out: dict[str, str] = {}
        self._replaced: set[str] = set()
        self._greetings: dict[str, asyncio.Future[None]] = {}
        # Times since which workers have not answered a greeting.
        self._unanswered: dict[str, float] = {}
        self._refusals: Counter[str] = Counter()
        self._arithmetics: list[str] = []
        self._background: set[asyncio.Future[Any]] = set()
        try:
            self._probe: Box | None = Box(0) if shared_memory else None
        except SharedMemoryError as error:
            _log.debug("vectors travel by the network: %s", error)
            self._probe = None

    async def present(self, refresh: bool) -> dict[str, int]:
        """Return the threads of each worker; asked for anew after a loss, and at times for new workers."""
        loop = asyncio.get_running_loop()
        if self._threads and not refresh and loop.time() < self._ask_at:
            return self._threads
        deadline = loop.time() + _NO_WORKER_TIMEOUT_S
        while True:
            asked = loop.time()
            there = await self._scheduled()
            self._ask_at = loop.time() + max(_REFRESH_S, (loop.time() - asked) / _SHARE)
            self.states = {address: state for address, state in self.states.items() if address in there}
            self._left_out = {address: why for address, why in self._left_out.items() if address in there}
            self._replaced &= set(there)
            self._unanswered = {address: since for address, since in self._unanswered.items() if address in there}
            await self._greet_new(there)
            present = {address: threads for address, threads in there.items() if address in self.states}
            if present:
                self._threads = present
                return present
            if self._left_out and len(self._left_out) == len(there):
                raise ClusterError("no worker can be used: " + "; ".join(sorted(self._left_out.values())))
            if loop.time() > deadline:
                raise ClusterError(
                    f"no worker connected within {_NO_WORKER_TIMEOUT_S:.0f} s; start workers, then use --resume"
                )
            await asyncio.sleep(_POLL_S)

    async def _greet_new(self, there: Collection[str]) -> None:
        """Greet new workers; a slow one does not delay the others."""
        for address in set(there) - set(self.states) - set(self._left_out) - self._replaced - set(self._greetings):
            greeting = asyncio.ensure_future(self._greet(address))
            self._greetings[address] = greeting
            greeting.add_done_callback(lambda _, a=address: self._greetings.pop(a))  # type: ignore[misc]
        if self._greetings:
            await asyncio.wait(self._greetings.values(), timeout=_POLL_S if self.states else _GREETING_TIMEOUT_S)

    async def _scheduled(self, _: Collection[str] = ()) -> dict[str, int]:
        """Return the threads of each worker of the scheduler. It has no shorter answer; there may be thousands."""
        try:
            # The client notices at once that it has lost the scheduler, where a new connection would be tried for long.
            if self._client.status != "running":
                raise CommClosedError(f"the client is {self._client.status}")
            workers: dict[str, int] = await asyncio.wait_for(self._client.scheduler.ncores(), _SCHEDULER_TIMEOUT_S)
        except (*GONE, TimeoutError) as error:
            raise ClusterError("the scheduler is gone; start a cluster again and use --resume") from error
        return workers

    async def _greet(self, address: str) -> None:
        """Let a worker take part if it answers, has the client's versions, and has not been refused too often."""
        probe = None if self._probe is None else list(self._probe.place)
        call = getattr(self._client.rpc(address), GREET)(probe=probe)
        try:
            answer = await asyncio.wait_for(call, _GREETING_TIMEOUT_S)
        except (*GONE, TimeoutError) as error:
            _log.debug("worker %s does not answer yet: %s", address, error)
            now = asyncio.get_running_loop().time()
            if now - self._unanswered.setdefault(address, now) > self.silence_s:
                _log.warning("worker %s has never answered and is restarted", address)
                del self._unanswered[address]
                self._replaced.add(address)
                self.replace(address)
            return
        self._unanswered.pop(address, None)
        # Dask answers None where there is no such handler: the plugin is still being set up.
        if answer is None:
            return
        if answer["versions"] != self._versions:
            other, ours = difference(answer["versions"], self._versions), as_text(self._versions)
            self._left_out[address] = f"worker {address} has {other}; install {ours} everywhere"
            _log.warning("a worker is left out: %s", self._left_out[address])
            return
        name = answer["name"]
        if self._refusals[name] >= _MAX_REFUSALS:
            self._left_out[address] = f"worker {name} ({address}) has given unusable answers {_MAX_REFUSALS} times"
            return
        self._compare(address, answer["arithmetic"])
        self.states[address] = WorkerState(bool(answer["sees"]), name)

    def _compare(self, address: str, arithmetic: str) -> None:
        """Warn of a worker that rounds differently from those before."""
        if arithmetic in self._arithmetics:
            return
        self._arithmetics.append(arithmetic)
        if len(self._arithmetics) > 1:
            _log.warning(
                "worker %s has %s, others have %s: sums are right, but their last bits depend on the worker",
                *(address, arithmetic, self._arithmetics[0]),
            )

    async def await_answers(self, tasks: Mapping[str, asyncio.Future[Any]]) -> None:
        """Return when all tasks are done; those of workers that are gone or silent are cancelled."""
        given_up = await await_answers(tasks, self._scheduled, self._client.rpc, self.silence_s)
        for address, quiet_s in given_up.items():
            if quiet_s is None:
                self.lose(address, "it disconnected")
            else:
                self.lose(address, f"silent for {quiet_s:.0f} s", silent=True)

    def lose(self, address: str, why: str, silent: bool = False) -> None:
        """Remove a worker that gave no answer; one that is only silent is restarted."""
        _log.warning("worker %s is lost: %s%s", address, why, "; it is restarted" if silent else "")
        self.states.pop(address, None)
        if silent:
            self.replace(address)

    def refuse(self, address: str, why: str) -> None:
        """Count an answer that cannot be used, and restart its worker."""
        name = self.states[address].name if address in self.states else address
        self._refusals[name] += 1
        _log.warning("the answer of worker %s is refused: %s; the worker is restarted", address, why)
        self._replaced.add(address)
        self.replace(address)

    def replace(self, address: str) -> None:
        """Request a new process, without waiting for it; until then this one is greeted anew before it takes part."""
        self.states.pop(address, None)
        task = asyncio.ensure_future(self._restart(address))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _restart(self, address: str) -> None:
        try:
            await self._client.restart_workers([address], timeout=_RESTART_TIMEOUT_S, raise_for_error=False)
        except Exception as error:
            _log.warning("worker %s could not be restarted: %s", address, error)
