"""Ranks of one job: processes that exchange messages before there is a Dask cluster."""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NoReturn

from hfnumba.errors import ClusterError, UsageError
from hfnumba.stop import end_if_stopped

SCHEDULER, CLIENT = 0, 1
"""Ranks that are not workers."""
MIN_SIZE = 3

PATIENCE_S = 600.0
"""Longest time that a rank waits for the others, which may start at different times."""

CLOSE_PATIENCE_S = 30.0
"""Longest time that ranks wait at their end for one that is frozen; nothing is lost with a rank that is only slow."""

_POLL_S, _PARENT_POLL_S, _GRACE_S = 0.02, 0.5, 10.0


class Ranks(ABC):
    """Ranks of a job for a launcher, with the parts of a communicator that dask-mpi needs.

    All ranks call :meth:`bcast` and :meth:`Barrier` in the same order. Waiting does not keep a processor busy.

    Parameters
    ----------
    rank, size : int
        Rank of this process, and number of ranks.
    n_here : int
        Number of ranks on this machine.
    """

    def __init__(self, rank: int, size: int, n_here: int) -> None:
        self.rank, self.size, self.n_here = rank, size, n_here

    def Get_rank(self) -> int:
        """Return the rank of this process."""
        return self.rank

    def Get_size(self) -> int:
        """Return the number of ranks."""
        return self.size

    @abstractmethod
    def bcast(self, message: Any, root: int = 0, patience_s: float = PATIENCE_S) -> Any:
        """Return ``message`` of the rank ``root`` in all ranks; it must be representable in JSON.

        Raises
        ------
        ClusterError
            If it does not arrive in time.
        """

    @abstractmethod
    def Barrier(self) -> None:
        """Note that this rank has the messages so far; dask-mpi calls this in all ranks.

        It does not wait, unlike a barrier of MPI: a rank that is frozen while it starts would hold up all others.
        """

    @abstractmethod
    def abort(self, status: int) -> NoReturn:
        """End this process immediately with a nonzero exit status, and the others too, as far as possible."""

    @abstractmethod
    def close(self, status: int) -> None:
        """Release the resources for messages, and end ranks that do not call this soon; the last call of all ranks.

        Parameters
        ----------
        status : int
            Exit status of the job.
        """


def refuse_few(size: int, kind: str, command: str) -> None:
    """Raise if there are too few ranks for a cluster.

    Raises
    ------
    UsageError
    """
    if size < MIN_SIZE:
        found = "this process is alone" if size == 1 else f"there are {size}"
        raise UsageError(
            f"--cluster {kind} needs at least {MIN_SIZE} ranks (scheduler, client, workers), but {found}; "
            f"use {command} -n 4 hfnumba train … --cluster {kind}"
        )


def wait_until(ready: Callable[[], bool], patience_s: float, what: str) -> None:
    """Wait for a condition without keeping a processor busy.

    Raises
    ------
    ClusterError
        If it does not hold in time.
    StoppedError
        If a signal arrives that ends a run.
    """
    deadline = time.monotonic() + patience_s
    while not ready():
        end_if_stopped()
        if time.monotonic() > deadline:
            raise ClusterError(f"{what} did not arrive within {patience_s:.0f} s; see what the other ranks printed")
        time.sleep(_POLL_S)


def end_with_parent(is_client: bool) -> None:
    """End this process soon after its parent, the launcher, has died; a killed ``mpirun`` leaves its processes running.

    The client has some more seconds, to report that its cluster is gone.
    """
    parent = os.getppid()

    def poll() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_POLL_S)
        if is_client:
            time.sleep(_GRACE_S)
        os._exit(1)

    threading.Thread(target=poll, name="end-with-parent", daemon=True).start()
