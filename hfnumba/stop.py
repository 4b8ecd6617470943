"""Signals that end a run at its next safe point."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; a batch system's end of time; the warning some batch systems send before it."""


def hold_signals() -> None:
    """Let these signals wait until :class:`StopSignals` is entered, and for ever once it is left.

    For a command that does nothing else: so none ends it while it starts, or while it tells how it has ended. Threads
    and processes that it starts in the meantime do not get them either.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


class StopSignals:
    """While it is entered, the first signal only sets ``received``; a second SIGINT raises KeyboardInterrupt.

    A signal that has waited (:func:`hold_signals`) counts at once. Handlers can be set in the main thread only; in any
    other nothing is done.

    Parameters
    ----------
    notify : callable
        Called with the name of the signal, in a signal handler: it must not write through buffered streams.
    """

    def __init__(self, notify: Callable[[str], None]) -> None:
        self.received: str | None = None
        self._notify = notify
        self._before: dict[signal.Signals, Any] = {}
        self._mask: Any = ()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
            self._mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        self._notify(self.received)
