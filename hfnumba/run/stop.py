"""Signals that end a run at the next safe point."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; a batch system's end of time; the warning some batch systems send before it."""


class StopSignals:
    """While it is entered, the first signal only sets ``received``; a second SIGINT raises KeyboardInterrupt.

    Handlers can be set in the main thread only; in any other nothing is done.

    Parameters
    ----------
    notify : callable
        Called with the name of the signal, in a signal handler: it must not write through buffered streams.
    """

    def __init__(self, notify: Callable[[str], None]) -> None:
        self.received: str | None = None
        self._notify = notify
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.received = signal.Signals(number).name
        self._notify(self.received)
