"""Worker processes on this machine."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from hfnumba.errors import ClusterError, UsageError
from hfnumba.launch.pipe_queue import without_semaphores
from hfnumba.processors import LEAST_MEMORY, available_memory, available_processors, mebibytes

if TYPE_CHECKING:
    from distributed import Client, LocalCluster, Nanny

_log = logging.getLogger(__name__)
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
_TERMINAL_SIGNALS = {signal.SIGINT, signal.SIGUSR1}
# Time limit for Dask to close a cluster, after which its workers are killed.
_CLOSE_S = 30.0


def has_dashboard() -> bool:
    """Whether local clusters have Dask's dashboard, which needs bokeh."""
    return importlib.util.find_spec("bokeh") is not None


@contextmanager
def local(n_workers: int | None = None, *, n_threads: int = 1) -> Iterator[Client]:
    """Start worker processes on this machine, yield a client of them, and stop them.

    Parameters
    ----------
    n_workers : int, optional
        Number of processes, default one per processor that this process may use.
    n_threads : int
        Number of threads of each process.

    Yields
    ------
    distributed.Client

    Raises
    ------
    UsageError
        If a number is less than 1.
    ClusterError
        If there is too little memory for the processes, or they do not start.

    Notes
    -----
    The processes are spawned, so a script that calls this needs ``if __name__ == "__main__":``. They block the signals
    SIGINT and SIGUSR1: a terminal sends Ctrl-C to all processes in the foreground, but only the client handles it. The
    scheduler listens on 127.0.0.1 only, and so does the dashboard, which runs if bokeh is installed. Takes about a
    second.
    """
    n_workers = available_processors() if n_workers is None else n_workers
    if n_workers < 1 or n_threads < 1:
        raise UsageError(f"expected at least 1 worker and 1 thread, got {n_workers} workers of {n_threads} threads")
    memory = available_memory() // n_workers
    if memory < LEAST_MEMORY:
        raise ClusterError(
            f"each of {n_workers} workers would have {mebibytes(memory)} of the {mebibytes(available_memory())} that "
            f"this machine or container has, but needs {mebibytes(LEAST_MEMORY)} before it has any rows; ask for fewer "
            "with local:N, or use no cluster at all"
        )
    from distributed import Client, LocalCluster  # noqa: PLC0415 - slow to import

    without_semaphores()
    try:
        with _signals_blocked():
            cluster = LocalCluster(
                n_workers=n_workers,
                threads_per_worker=n_threads,
                memory_limit=memory,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0" if has_dashboard() else None,
                silence_logs=logging.CRITICAL,
                env=dict.fromkeys(THREAD_VARIABLES, "1"),
            )
    except (OSError, RuntimeError) as error:
        raise ClusterError(
            f"{n_workers} worker processes could not be started on this machine ({error}); "
            "ask for fewer with local:N, or use no cluster at all"
        ) from error
    with _quiet_loggers(), _long_lost_worker_timeout(), _ended(cluster), Client(cluster) as client:
        yield client


@contextmanager
def _ended(cluster: LocalCluster) -> Iterator[None]:
    """Close the cluster in bounded time; Dask may wait forever for a process that is just being replaced."""
    try:
        yield
    finally:
        nannies = list(cluster.workers.values())
        closing = threading.Thread(target=cluster.close, name="hfnumba-close", daemon=True)
        closing.start()
        closing.join(_CLOSE_S)
        if closing.is_alive():
            for nanny in nannies:
                if nanny.pid is not None:
                    with suppress(ProcessLookupError):
                        os.kill(nanny.pid, signal.SIGKILL)
            closing.join(_CLOSE_S)
            if closing.is_alive():
                _log.error("the local cluster does not close; these processes may still run: %s", _pids(nannies))


def _pids(nannies: Iterable[Nanny]) -> str:
    """List the ids of worker processes."""
    return ", ".join(str(nanny.pid) for nanny in nannies if nanny.pid is not None) or "unknown"


def _long_lost_worker_timeout() -> AbstractContextManager[Any]:
    """Make Dask wait for restarting workers.

    By default it checks for a worker some seconds after its death, and gives up for good on one that has died again in
    the meantime and is just starting.
    """
    import dask  # noqa: PLC0415 - not needed without a cluster

    settings: AbstractContextManager[Any] = dask.config.set({"distributed.deploy.lost-worker-timeout": "1 day"})
    return settings


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block the signals of the terminal in threads and processes that are started in this context, permanently.

    The mask survives exec, unlike a handler. The first process of multiprocessing would also start its resource
    tracker, which unblocks SIGINT in the calling thread; therefore the tracker is started before.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _TERMINAL_SIGNALS)
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, _TERMINAL_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _quiet_loggers() -> Iterator[None]:
    """Silence Dask about workers: those that are lost are replaced, and their client reports it."""
    loggers = [logging.getLogger(f"distributed.{name}") for name in ("nanny", "scheduler", "core", "comm", "worker")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
