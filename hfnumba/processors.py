"""Processors available to this process, and the placement of its threads."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys


def available_processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if sys.platform == "linux":
    _where = getattr(ctypes.CDLL(None), "sched_getcpu", lambda: -1)

    def current_processor() -> int:
        """Number of the processor that the calling thread runs on; -1 if it is unknown."""
        return int(_where())

    def keep_off(processor: int, threads: list[int]) -> None:
        """Allow threads, given by native ids, to run on all processors of this process except one."""
        others = os.sched_getaffinity(0) - {processor}
        with contextlib.suppress(OSError):  # a container may forbid it
            for thread in threads:
                os.sched_setaffinity(thread, others)

    def run_anywhere() -> None:
        """Allow this thread to run on all processors of the process; by default it inherits those of its creator."""
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, os.sched_getaffinity(os.getpid()))

else:

    def current_processor() -> int:
        """Number of the processor that the calling thread runs on; -1 if it is unknown."""
        return -1

    def keep_off(processor: int, threads: list[int]) -> None:
        """Do nothing; this system does not control where threads run."""

    def run_anywhere() -> None:
        """Do nothing; this system does not control where threads run."""
