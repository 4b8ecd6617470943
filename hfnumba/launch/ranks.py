"""The ranks of one job, as processes that can tell each other something before there is a Dask cluster."""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NoReturn

from hfnumba.errors import ClusterError, UsageError

SCHEDULER, CLIENT = 0, 1
"""The ranks that are no workers."""
MIN_SIZE = 3

PATIENCE_S = 600.0
"""How long a rank waits for the others at most: they may start at different times."""

_POLL_S, _WATCH_S, _GRACE_S = 0.02, 0.5, 10.0


class Ranks(ABC):
    """What a launcher needs of the ranks of a job; also a communicator, as far as dask-mpi asks for one.

    All ranks call :meth:`bcast` and :meth:`Barrier` in the same order. Waiting leaves the processor to others.

    Parameters
    ----------
    rank, size : int
        Which this is, of how many.
    one_host : bool
        Whether all run on one machine.
    """

    def __init__(self, rank: int, size: int, one_host: bool) -> None:
        self.rank, self.size, self.one_host = rank, size, one_host

    def Get_rank(self) -> int:
        """Return which rank this is."""
        return self.rank

    def Get_size(self) -> int:
        """Return how many ranks there are."""
        return self.size

    @abstractmethod
    def bcast(self, message: Any, root: int = 0, patience_s: float = PATIENCE_S) -> Any:
        """Return ``message`` of the rank ``root`` in all ranks; what JSON can hold.

        Raises
        ------
        ClusterError
            If it does not come in time.
        """

    @abstractmethod
    def Barrier(self) -> None:
        """Return when all ranks have come here.

        Raises
        ------
        ClusterError
            If one does not come in time.
        """

    @abstractmethod
    def abort(self, status: int) -> NoReturn:
        """End this process at once with an exit status that is not 0, and the others too, as far as possible."""

    @abstractmethod
    def close(self) -> None:
        """Take down what was set up for messages; the last thing all ranks call."""


def refuse_few(size: int, kind: str, command: str) -> None:
    """Refuse to form a cluster of ranks that are too few.

    Raises
    ------
    UsageError
    """
    if size < MIN_SIZE:
        came = "this process is alone" if size == 1 else f"there are {size}"
        raise UsageError(
            f"--cluster {kind} needs at least {MIN_SIZE} ranks (scheduler, client, workers), but {came}; "
            f"use {command} -n 4 hfnumba train … --cluster {kind}"
        )


def wait_until(ready: Callable[[], bool], patience_s: float, what: str) -> None:
    """Wait without keeping a processor busy.

    Raises
    ------
    ClusterError
    """
    deadline = time.monotonic() + patience_s
    while not ready():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what} did not come within {patience_s:.0f} s; see what the other ranks printed")
        time.sleep(_POLL_S)


def end_with_parent(is_client: bool) -> None:
    """End this process soon after the launcher that started it has died; a killed ``mpirun`` ends no processes.

    The client has some seconds more, to report that its cluster is gone.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_S)
        if is_client:
            time.sleep(_GRACE_S)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
