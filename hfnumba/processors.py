"""Processors and memory available to this process: those of the machine, or what a container or a batch job may use."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

from hfnumba import linux
from hfnumba.errors import ClusterError

INTERPRETER_MEMORY = 256 * 2**20
"""Bytes that an interpreter takes with its libraries and kernels; compiling these takes half as much again."""
USABLE_SHARE = 0.9
"""Share of a process's memory that it uses at most: at 95 % of a worker's limit Dask ends the process."""
LEAST_MEMORY = math.ceil(INTERPRETER_MEMORY / USABLE_SHARE)
"""Bytes of memory without which no process of ours can run, however few rows it has."""


def available_processors() -> int:
    """Number of processors that this process may use; parts of one count as one."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = linux.processor_limit()
    return n if limit is None else min(n, math.ceil(limit))


def available_memory() -> int:
    """Bytes of memory that this process and those beside it may use."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = linux.memory_limit()
    return machine if limit is None else min(machine, limit)


def worker_memory(limit: int | None, n_threads: int) -> int | None:
    """Bytes of memory that a worker may use, by its limit in Dask; None if it has none.

    A worker that is started by hand gets from Dask the share of the machine's memory that its threads are of the
    processors. Dask does not see the limit of a control group below the topmost one, such as a batch job's: of that
    the worker takes the same share, since others beside it do.

    Parameters
    ----------
    limit : int or None
        Limit in Dask.
    n_threads : int
        Number of threads of the worker.
    """
    from dask.system import CPU_COUNT  # noqa: PLC0415 - not needed without a cluster
    from distributed.system import MEMORY_LIMIT  # noqa: PLC0415 - slow to import

    share = min(1, n_threads / CPU_COUNT)
    if limit is None or limit != int(MEMORY_LIMIT * share):
        return limit
    return min(limit, int(available_memory() * share))


def mebibytes(nbytes: int) -> str:
    """Return a size as a user may give it, rounded up."""
    return f"{-(-nbytes // 2**20)}MiB"


def check_memory(limits: Mapping[str, int | None]) -> None:
    """Refuse workers that could not even load the libraries; Dask ends a worker that reaches its limit.

    Parameters
    ----------
    limits : mapping of str to int or None
        Memory limit of each worker in bytes; 0 or None for one without.

    Raises
    ------
    ClusterError
        Naming the workers, what they have and what they need.
    """
    small = {address: limit for address, limit in sorted(limits.items()) if limit and limit < LEAST_MEMORY}
    if small:
        named = "; ".join(f"{address} has {mebibytes(small[address])}" for address in list(small)[:3])
        more = f" and {len(small) - 3} more" if len(small) > 3 else ""
        raise ClusterError(
            f"{len(small)} of {len(limits)} workers have a memory limit below the {mebibytes(LEAST_MEMORY)} that a "
            f"worker needs before it has any rows ({named}{more}); start fewer workers on a machine, or give them more "
            "memory (dask worker has --memory-limit)"
        )
