"""Which processors there are to use, and where a thread runs."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys


def available_processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if sys.platform == "linux":
    _where = getattr(ctypes.CDLL(None), "sched_getcpu", lambda: -1)

    def current_processor() -> int:
        """The processor that the calling thread runs on; -1 where that cannot be known."""
        return int(_where())

    def keep_off(processor: int, threads: list[int]) -> None:
        """Let threads, by their native ids, run on every processor this process may use except one."""
        others = os.sched_getaffinity(0) - {processor}
        with contextlib.suppress(OSError):  # a container may forbid it
            for thread in threads:
                os.sched_setaffinity(thread, others)

    def run_anywhere() -> None:
        """Let this thread run where the process may, and not only where the thread that started it may."""
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, os.sched_getaffinity(os.getpid()))

else:

    def current_processor() -> int:
        """The processor that the calling thread runs on; -1 where that cannot be known."""
        return -1

    def keep_off(processor: int, threads: list[int]) -> None:
        """Do nothing: this system does not say where threads run."""

    def run_anywhere() -> None:
        """Do nothing, as above."""
