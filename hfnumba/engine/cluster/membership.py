"""The workers that take part: those of the scheduler that have the client's versions and give usable answers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from distributed import Client
from distributed.comm.core import CommClosedError

from hfnumba.engine.cluster.calls import Calls
from hfnumba.engine.cluster.greeting import Greeting, Greetings
from hfnumba.engine.cluster.liveness import await_answers
from hfnumba.engine.cluster.losses import Losses
from hfnumba.engine.cluster.messages import GONE
from hfnumba.errors import ClusterError, sentence
from hfnumba.stop import end_if_stopped
from hfnumba.versions import as_text, difference, installed

_log = logging.getLogger(__name__)
# Time without a sign of any worker after which a round ends: new processes take minutes to start on a busy machine.
_NO_WORKER_TIMEOUT_S = 600.0
_RESTART_TIMEOUT_S, _SCHEDULER_TIMEOUT_S = 30.0, 30.0
_POLL_S, _REFRESH_S = 0.1, 2.0
# At most this share of the time goes into asking the scheduler for its workers.
_SHARE = 0.01
# Processes that may take the place of each worker while none can be used.
_MAX_PROCESSES = 10
# Unusable answers after which a worker of one name is left out; its nanny replaces the process each time.
_MAX_REFUSALS = 3


@dataclass
class WorkerState:
    """Client's record of what a worker has; an error in it costs one more exchange, never a wrong sum.

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
        self._greetings = Greetings(client, silence_s, shared_memory)
        # Names of all workers so far; new processes keep them.
        self._names: dict[str, str] = {}
        # Those that are never asked, with the reason; those whose process is being replaced.
        self._left_out: dict[str, str] = {}
        self._replaced: set[str] = set()
        self._losses = Losses(silence_s, time.monotonic)
        self._refusals: Counter[str] = Counter()
        self._arithmetics: list[str] = []
        self._background: set[asyncio.Future[Any]] = set()

    def name(self, address: str) -> str:
        """Name of a worker, which the process that replaces it has too."""
        return self._names.get(address, address)

    async def present(self, refresh: bool) -> dict[str, int]:
        """Return the threads of each worker; asked for anew after a loss, and at times for new workers."""
        if self._threads and not refresh and time.monotonic() < self._ask_at:
            return self._threads
        begun, told = time.monotonic(), not self._threads
        seen, most = set[str](), 1
        while True:
            there = await self._look()
            seen, most = seen | set(there), max(most, len(there))
            present = {address: threads for address, threads in there.items() if address in self.states}
            none_stay = len(seen) > _MAX_PROCESSES * most
            # At first all that start are waited for; later they do not delay the others.
            if present and (self._threads or none_stay or not self._greetings.expected(there)):
                fit = {address: n for address, n in present.items() if not self._losses.rests(self.name(address))}
                self._threads = fit or present
                return self._threads
            end_if_stopped()
            if self._left_out and len(self._left_out) == len(there):
                raise ClusterError("no worker can be used: " + "; ".join(sorted(self._left_out.values())))
            if none_stay:
                raise ClusterError(
                    f"{len(seen)} processes of workers were started, {most} at a time, and none stayed long enough to "
                    "be used; see their logs: often they take more memory than Dask or the container allows; give them "
                    "more, then use --resume"
                )
            if time.monotonic() > max(begun, self._greetings.heard_at) + _NO_WORKER_TIMEOUT_S:
                raise ClusterError(
                    f"no worker connected within {_NO_WORKER_TIMEOUT_S:.0f} s; start workers, then use --resume"
                )
            if not told:
                told = True
                _log.warning("no worker is left; waiting up to %.0f s for one to connect", _NO_WORKER_TIMEOUT_S)
            await asyncio.sleep(_POLL_S)

    async def _look(self) -> dict[str, int]:
        """Return the threads of each worker of the scheduler, and greet those that are new."""
        asked = time.monotonic()
        there = await self._scheduled()
        self._ask_at = time.monotonic() + max(_REFRESH_S, (time.monotonic() - asked) / _SHARE)
        self.states = {address: state for address, state in self.states.items() if address in there}
        self._left_out = {address: why for address, why in self._left_out.items() if address in there}
        self._replaced &= set(there)
        new = set(there) - set(self.states) - set(self._left_out) - self._replaced
        for address, greeting in (await self._greetings.send(new, _POLL_S)).items():
            self._admit(address, greeting)
        for address in self._greetings.silent():
            _log.warning("worker %s does not answer and is restarted", self.known_as(address))
            self._replaced.add(address)
            self.replace(address)
        return there

    async def _scheduled(self, _: Collection[str] = ()) -> dict[str, int]:
        """Return the threads of each worker of the scheduler. It has no shorter answer; there may be thousands."""
        try:
            # The client notices at once that it has lost the scheduler, where a new connection would be tried for long.
            if self._client.status != "running":
                raise CommClosedError(f"the client is {self._client.status}")
            limit_s = max(_SCHEDULER_TIMEOUT_S, self.silence_s)
            workers: dict[str, int] = await asyncio.wait_for(self._client.scheduler.ncores(), limit_s)
        except (*GONE, TimeoutError) as error:
            raise ClusterError("the scheduler is gone; start a cluster again and use --resume") from error
        return workers

    def _admit(self, address: str, greeting: Greeting) -> None:
        """Let a worker take part if it has the client's versions, and has not been refused too often."""
        self._names[address] = greeting.name or address
        if greeting.failure is not None:
            self._leave_out(address, f"worker {address} {greeting.failure}")
        elif greeting.versions != self._versions:
            other, ours = difference(greeting.versions, self._versions), as_text(self._versions)
            self._leave_out(address, f"worker {address} has {other}; install {ours} everywhere")
        elif self._refusals[greeting.name] >= _MAX_REFUSALS:
            known_as = self.known_as(address)
            self._left_out[address] = f"worker {known_as} has given unusable answers {_MAX_REFUSALS} times"
        else:
            self._compare(address, greeting.arithmetic)
            self.states[address] = WorkerState(greeting.shares_memory, greeting.name)

    def _leave_out(self, address: str, why: str) -> None:
        self._left_out[address] = why
        _log.warning("a worker is left out: %s", why)

    def known_as(self, address: str) -> str:
        """Return the name of a worker and its address for a message; the address alone where nobody has named it."""
        name = self.name(address)
        return address if "://" in name else f"{name} ({address})"

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

    async def await_answers(self, tasks: Mapping[str, asyncio.Future[Any]], calls: Calls) -> dict[str, float | None]:
        """Return when all tasks are done; those of workers that are gone or silent are cancelled, and named."""
        return await await_answers(tasks, self._scheduled, calls, self.silence_s)

    def answered(self, address: str) -> None:
        """Record that a worker has finished its part of a round."""
        self._losses.answered(self.name(address))

    def lose(self, address: str, why: str, silent: bool = False) -> None:
        """Remove a worker that gave no answer; one that is only silent is restarted."""
        rest_s = self._losses.lost(self.name(address))
        rest = f"; it is not asked for {rest_s:.0f} s if there are others" if rest_s else ""
        _log.warning("worker %s is lost: %s%s%s", address, why, "; it is restarted" if silent else "", rest)
        self.states.pop(address, None)
        if silent:
            self.replace(address)

    def refuse(self, address: str, why: str) -> None:
        """Count an answer that cannot be used, and restart its worker."""
        self._refusals[self.name(address)] += 1
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
        except KeyError:
            _log.debug("worker %s has left before it could be restarted", address)
        except Exception as error:
            # It may be there still, and is greeted again.
            self._replaced.discard(address)
            if self._client.status != "running":
                # The run has ended meanwhile, and its client closes the connection that would bring the answer.
                return
            _log.warning("worker %s could not be restarted: %s", address, sentence(error))
