"""Checks of a Dask client that an engine will use, and of the process that uses it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from distributed import Client

from hfnumba.errors import ClusterError, UsageError
from hfnumba.launch.connection import scheduler_answer
from hfnumba.processors import check_memory, mebibytes

_log = logging.getLogger(__name__)
MEMORY_RESTARTS = "worker-restart-memory"
"""Topic of Dask's events about workers that exceed their memory limit."""


def check_client(client: Client) -> None:
    """Refuse a client that rounds cannot use; from now on it warns of workers that exceed their memory limit.

    Raises
    ------
    UsageError
        If the client is asynchronous.
    ClusterError
        If the client is closed, workers have too little memory, or the scheduler does not answer.
    StoppedError
        If a signal arrives that ends a run.
    """
    if client.asynchronous:
        raise UsageError(
            "expected a synchronous client, got an asynchronous one, whose event loop would wait for itself; "
            "make the client with asynchronous=False, the default"
        )
    if client.status != "running":
        raise ClusterError(f"expected a client that is connected, got one that is {client.status}; make a new one")
    found = client.sync(scheduler_answer, client.scheduler.identity(n_workers=-1))
    check_memory({address: worker["memory_limit"] for address, worker in found["workers"].items()})
    client.subscribe_topic(MEMORY_RESTARTS, warn_of_restart)


def warn_of_restart(event: tuple[float, Mapping[str, Any]]) -> None:
    """Warn of a worker that Dask restarts because of its memory, by the event of the topic above."""
    found = event[1]
    _log.warning(
        "worker %s took %s of memory, which is more than its memory limit allows, and Dask restarts it; give it a "
        "higher limit, start fewer workers on a machine, or limit its rows with --memory",
        *(found["worker"], mebibytes(found["rss"])),
    )


def refuse_fork(process: int) -> None:
    """Refuse a process that was forked from that of the client: Dask would wait there for threads that are not.

    Parameters
    ----------
    process : int
        Process in which the client was made.

    Raises
    ------
    ClusterError
        If this is another process.
    """
    if process != os.getpid():
        raise ClusterError(
            f"this objective belongs to process {process}, from which this one was forked without its "
            "connections; make a client and an objective here, or start processes by spawn instead of fork"
        )
