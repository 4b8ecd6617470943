"""Nanny that starts its worker again if that dies or freezes while it starts."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from contextlib import suppress
from typing import Any

import psutil
from distributed import Nanny, Status

from hfnumba.errors import ClusterError, sentence
from hfnumba.launch.guard import UNGUARDED

_log = logging.getLogger(__name__)
# Processes that may end one after another before the first of them has started.
_MAX_STARTS = 3
# A worker that is not stopped may wait for a slow disk.
_IDLE_S = 60.0
_POLL_S = 0.5
# A frozen worker that has started: where it is in a round its client knows sooner, and says so.
_LATER = 2


class WatchedNanny(Nanny):
    """Nanny of a worker process that may die or freeze at any time.

    A worker that starts is killed, and so replaced, if the system has stopped it for as long as a round would wait for
    it, or if it has neither used a processor nor waited for one for as long, at least a minute: signs of life that do
    not depend on how fast the machine is. One that serves is killed if it has been stopped for twice that time.

    Parameters
    ----------
    *args
        As for :class:`distributed.Nanny`.
    silence_s : float
        Seconds without a sign of life after which a round gives up a worker.
    **options
        As for :class:`distributed.Nanny`.

    Attributes
    ----------
    n_failed : int
        Number of processes that have ended before the first of them has started.
    reason : str
        What is known of the last of these.
    """

    def __init__(self, *args: Any, silence_s: float = 60.0, **options: Any) -> None:
        super().__init__(*args, **options)
        self.n_failed, self.reason = 0, ""
        self._silence_s = silence_s
        self._exit_code: int | None = None
        # Why this nanny has killed the process itself.
        self._why_killed = ""
        self._watching: asyncio.Task[None] | None = None

    async def instantiate(self) -> Status:
        """Start a worker process; the first time, again and again if it ends before it has started."""
        if self._watching is None:
            self._watching = asyncio.ensure_future(self._watch())
        result = await self._instantiate()
        # Dask itself starts those again that end later.
        while result != Status.running and self.status == Status.init:
            self.n_failed += 1
            self.reason = self._ending()
            if self.unguarded or self.n_failed == _MAX_STARTS:
                if not self.unguarded:
                    _log.warning(
                        "a worker process %s while it started, after others before it; none follows", self.reason
                    )
                raise ClusterError(self.reason)
            _log.warning("a worker process %s while it started; another one is started", self.reason)
            result = await self._instantiate()
        return result

    async def _instantiate(self) -> Status:
        self._why_killed = ""
        try:
            result: Status = await super().instantiate()
        except Exception as error:
            self.reason = f"could not start: {sentence(error)}"
            raise
        return result

    def _on_worker_exit_sync(self, exitcode: int | None) -> None:
        self._exit_code = exitcode
        super()._on_worker_exit_sync(exitcode)

    def _ending(self) -> str:
        if self._exit_code is None or self._exit_code == -1:
            return "could not be created"
        if self._exit_code < 0:
            return self._why_killed or f"was killed by signal {-self._exit_code}"
        return f"ended with status {self._exit_code}"

    async def _watch(self) -> None:
        """Kill a worker process that has no signs of life."""
        seen: tuple[Any, ...] | None = None
        since, interval_s = time.monotonic(), max(_POLL_S, self._silence_s / 10)
        while self.status not in (Status.closing, Status.closed, Status.failed):
            begun = time.monotonic()
            await asyncio.sleep(interval_s)
            # Time in which this process itself was stopped or too busy to look, as the worker then may be.
            since += max(0.0, time.monotonic() - begun - interval_s)
            found = self._signs()
            if found != seen:
                seen, since = found, time.monotonic()
            elif found is not None and (quiet_s := time.monotonic() - since) > self._patience_s(found):
                self._why_killed = (
                    f"{'was stopped (SIGSTOP)' if found[1] else 'used no processor'} for {quiet_s:.0f} s and was killed"
                )
                self.kill_process()

    def _signs(self) -> tuple[Any, ...] | None:
        """Return what is seen of the process: whether it is stopped, and otherwise something that differs if it lives.

        That is its processor time, or where it is ready to run, on a busy machine, a new object each time.
        """
        pid = self.pid
        if pid is None:
            return None
        try:
            process = psutil.Process(pid)
            state, times = process.status(), process.cpu_times()
        except psutil.Error:
            return None
        stopped = state in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
        return pid, stopped, object() if state == psutil.STATUS_RUNNING else times.user + times.system

    def _patience_s(self, signs: tuple[Any, ...]) -> float:
        starting = self.process is not None and self.process.status == Status.starting
        if signs[1]:
            return self._silence_s * (1 if starting else _LATER)
        return max(self._silence_s, _IDLE_S) if starting else float("inf")

    def kill_process(self) -> None:
        """Kill the worker process at once, if there is one; unless the nanny closes, another one follows."""
        if (pid := self.pid) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @property
    def unguarded(self) -> bool:
        """Whether the last process has ended because it imported a script that starts workers."""
        return self._exit_code == UNGUARDED

    def give_up(self) -> None:
        """Start no other process, and kill one that starts yet: it cannot close by itself."""
        starting = self.process is None or self.process.status != Status.running
        if starting and self.status in (Status.init, Status.running):
            self.close_gracefully()
            self.kill_process()
