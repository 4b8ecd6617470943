"""Worker processes on this machine."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from hfnumba.errors import ClusterError, UsageError
from hfnumba.launch.security import private_folder
from hfnumba.processors import available_processors

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
# Folders that are removed with this process.
_UNCLOSED: list[ExitStack] = []


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
        If the processes do not start.

    Notes
    -----
    The processes are spawned, so a script that calls this needs ``if __name__ == "__main__":``. They block the signals
    SIGINT and SIGUSR1: a terminal sends Ctrl-C to all processes in the foreground, but only the client handles it. The
    connections are sockets in a folder that only this user can enter, because whoever connects can run code. The
    dashboard runs if bokeh is installed; it listens on 127.0.0.1, so other users of the machine can look at it. Takes
    about a second.
    """
    n_workers = available_processors() if n_workers is None else n_workers
    if n_workers < 1 or n_threads < 1:
        raise UsageError(f"expected at least 1 worker and 1 thread, got {n_workers} workers of {n_threads} threads")
    from distributed import Client  # noqa: PLC0415 - slow to import

    with ExitStack() as folder:
        cluster = _start(n_workers, n_threads, folder.enter_context(private_folder()))
        with _quiet_loggers(), _long_lost_worker_timeout(), _ended(cluster, folder), Client(cluster) as client:
            yield client


def _start(n_workers: int, n_threads: int, folder: str) -> LocalCluster:
    """Start the processes, which listen in a folder."""
    from distributed import LocalCluster  # noqa: PLC0415 - slow to import

    from hfnumba.launch import sockets  # noqa: PLC0415

    try:
        with _signals_blocked():
            return LocalCluster(
                n_workers=n_workers,
                threads_per_worker=n_threads,
                processes=True,
                host=sockets.host(folder),
                preload=[sockets.__name__],
                dashboard_address="127.0.0.1:0" if has_dashboard() else None,
                silence_logs=logging.ERROR,
                env=dict.fromkeys(THREAD_VARIABLES, "1"),
            )
    except (OSError, RuntimeError) as error:
        raise ClusterError(
            f"{n_workers} worker processes could not be started on this machine ({error}); "
            "ask for fewer with local:N, or use no cluster at all"
        ) from error


@contextmanager
def _ended(cluster: LocalCluster, folder: ExitStack) -> Iterator[None]:
    """Close the cluster in bounded time; Dask may wait forever for a process that is just being replaced.

    Processes that are still starting then need the folder, to connect and to be told to end.
    """
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
                _UNCLOSED.append(folder.pop_all())


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
    """Log only errors of Dask about workers, because lost workers are replaced."""
    loggers = [logging.getLogger(f"distributed.{name}") for name in ("nanny", "scheduler", "core", "comm", "worker")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
