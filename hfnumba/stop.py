"""Signals that stop a run at its next safe point."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, ClassVar, Self

from hfnumba.errors import StoppedError

_POLL_S = 0.1

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""Ctrl-C; the end of the time limit of a batch system; the warning that some batch systems send before it; the end of
the terminal, except for a process that was started to ignore it, as ``nohup`` does."""


def block_signals() -> None:
    """Block these signals in this thread; they stay pending until :class:`StopSignals` is entered.

    Leaving :class:`StopSignals` blocks them again. So no signal ends a command while it starts or while it prints its
    result. Threads and processes that are started meanwhile inherit the mask.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def end_as_by_ctrl_c() -> None:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt, so that temporary files and processes are removed.

    For commands that have no checkpoints of their own to end at; by default these signals end a process at once.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if not _by_nohup(number):
            signal.signal(number, signal.default_int_handler)


def end_if_stopped() -> None:
    """Raise StoppedError if a run has received a signal; called by what waits, in any thread."""
    current = StopSignals.current
    if current is not None and current.received is not None:
        raise StoppedError(f"stopped by {current.received}")


async def unless_stopped[T](waited_for: Awaitable[T], timeout_s: float) -> T:
    """Return the result of what is waited for, which is cancelled at a signal or when the time is over.

    Raises
    ------
    StoppedError
        Soon after a run has received a signal.
    TimeoutError
    """
    task = asyncio.ensure_future(waited_for)
    deadline = asyncio.get_running_loop().time() + timeout_s
    try:
        while True:
            done, _ = await asyncio.wait([task], timeout=_POLL_S)
            if done:
                return task.result()
            end_if_stopped()
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError
    finally:
        task.cancel()
        # A failure while it ends would be logged as one that nobody has seen.
        task.add_done_callback(lambda ended: None if ended.cancelled() else ended.exception())


class StopSignals:
    """Context in which the first signal only sets ``received``, and a second SIGINT raises KeyboardInterrupt.

    A pending signal (:func:`block_signals`) is received on entering. Handlers can be set in the main thread only; in
    any other thread the context does nothing.

    Parameters
    ----------
    on_signal : callable
        Function called with the name of the first signal, in a signal handler: it must not write through buffered
        streams.
    """

    current: ClassVar[StopSignals | None] = None

    def __init__(self, on_signal: Callable[[str], None]) -> None:
        self.received: str | None = None
        self._on_signal = on_signal
        self._before: dict[signal.Signals, Any] = {}
        self._mask: Any = ()
        self._outer: StopSignals | None = None

    def __enter__(self) -> Self:
        self._outer, StopSignals.current = StopSignals.current, self
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS if not _by_nohup(number)}
            self._mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        StopSignals.current = self._outer
        if self._before:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.received = signal.Signals(number).name
        self._on_signal(self.received)


def _by_nohup(number: signal.Signals) -> bool:
    return number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN


def print_in_handler(text: str) -> None:
    """Print a line on stderr without Python's buffers, because a signal handler may interrupt a write through them."""
    # Nobody may read it: the terminal that sent the signal may be gone.
    with suppress(OSError):
        os.write(2, f"\n{text}\n".encode())
