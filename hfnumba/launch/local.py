"""Worker processes on this machine."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from hfnumba.errors import ClusterError, UsageError, sentence
from hfnumba.launch.connection import connection, quiet_loggers
from hfnumba.launch.guard import end_if_imported
from hfnumba.launch.pipe_queue import without_semaphores
from hfnumba.launch.security import has_dashboard, private_folder
from hfnumba.processors import LEAST_MEMORY, available_memory, available_processors, mebibytes
from hfnumba.stop import end_if_stopped

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

    from hfnumba.launch.nanny import WatchedNanny

_log = logging.getLogger(__name__)
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
_TERMINAL_SIGNALS = {signal.SIGINT, signal.SIGUSR1, signal.SIGHUP}
# Time limit for Dask to close a cluster, after which its workers are killed.
_CLOSE_S = 30.0
_POLL_S = 0.1
# Folders that are removed with this process.
_UNCLOSED: list[ExitStack] = []


@contextmanager
def local(n_workers: int | None = None, *, n_threads: int = 1, timeout_s: float = 60.0) -> Iterator[Client]:
    """Start worker processes on this machine, yield a client of them, and stop them.

    Parameters
    ----------
    n_workers : int, optional
        Number of processes, default one per processor that this process may use.
    n_threads : int
        Number of threads of each process.
    timeout_s : float
        Seconds without a sign of life after which a process that starts is replaced.

    Yields
    ------
    distributed.Client

    Raises
    ------
    UsageError
        If a number is less than 1.
    ClusterError
        If there is too little memory for the processes, or none starts; each is tried three times.
    StoppedError
        If a signal arrives that ends a run.

    Notes
    -----
    The processes are spawned, so a script that calls this needs ``if __name__ == "__main__":``. They block the signals
    SIGINT, SIGUSR1 and SIGHUP: a terminal sends Ctrl-C and its own end to all processes in the foreground, but only the
    client handles it. The connections are sockets in a folder that only this user can enter, since anyone who connects
    can run code. Dask's pages over HTTP, which other users of the machine could read, are off (see
    :func:`hfnumba.launch.security.has_dashboard`). Takes about a second. If a process dies or freezes while it starts,
    another one is started in its place, and the client is there as soon as all others are.
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
    end_if_imported()
    nannies: list[WatchedNanny] = []
    with ExitStack() as folder:
        place, nanny = folder.enter_context(private_folder()), _made_into(nannies, timeout_s)
        cluster = _scheduler(place, threads_per_worker=n_threads, memory_limit=memory, worker_class=nanny)
        with (
            # Workers that are lost are replaced, and their client reports it.
            quiet_loggers("nanny", "scheduler", "core", "comm", "worker"),
            _long_lost_worker_timeout(),
            _ended(cluster, nannies, folder),
            connection(cluster) as client,
        ):
            client.sync(_start, cluster, nannies, n_workers)
            yield client


def _scheduler(folder: str, **of_workers: Any) -> LocalCluster:
    """Start a cluster without workers, whose processes listen in a folder."""
    from distributed import LocalCluster  # noqa: PLC0415 - slow to import

    from hfnumba.launch import sockets  # noqa: PLC0415

    without_semaphores()
    try:
        with _signals_blocked():
            return LocalCluster(
                n_workers=0,
                processes=True,
                host=sockets.host(folder),
                preload=[sockets.__name__],
                scheduler_kwargs={"dashboard": has_dashboard()},
                # Any port: without an address Dask would take 8787, and warn where that is taken.
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
                env=dict.fromkeys(THREAD_VARIABLES, "1"),
                **of_workers,
            )
    except (OSError, RuntimeError) as error:
        raise ClusterError(f"a local cluster cannot be started ({sentence(error)}); use no cluster at all") from error


def _made_into(nannies: list[WatchedNanny], silence_s: float) -> Callable[..., WatchedNanny]:
    """Return what makes a nanny and adds it to a list; Dask's own list has only those that have started."""
    from hfnumba.launch.nanny import WatchedNanny  # noqa: PLC0415 - distributed is slow to import

    def make(*args: Any, **options: Any) -> WatchedNanny:
        nannies.append(WatchedNanny(*args, silence_s=silence_s, **options))
        return nannies[-1]

    return make


async def _start(cluster: LocalCluster, nannies: list[WatchedNanny], n_workers: int) -> None:
    """Start workers; return when all are there, or some are and a process of each other one has failed."""
    cluster.worker_spec = dict.fromkeys(range(n_workers), cluster.new_spec)
    from distributed import Status  # noqa: PLC0415 - slow to import

    starting = asyncio.ensure_future(_corrected(cluster))
    while not starting.done():
        await asyncio.wait([starting], timeout=_POLL_S)
        end_if_stopped()
        running = [nanny.status == Status.running for nanny in nannies]
        if any(running) and all(nanny.n_failed or runs for nanny, runs in zip(nannies, running, strict=True)):
            return
    if not any(nanny.status == Status.running for nanny in nannies):
        raise ClusterError(_reason(nannies, starting.result()))


async def _corrected(cluster: LocalCluster) -> BaseException | None:
    """Wait until the processes of a cluster are those that it should have; return the error instead of raising it."""
    try:
        await cluster
    except Exception as error:
        return error
    return None


def _reason(nannies: list[WatchedNanny], error: BaseException | None) -> str:
    """Return why no worker has started, and what to do."""
    if any(nanny.unguarded for nanny in nannies):
        return (
            "this script starts worker processes, and each of them imports the script; put what it does under "
            '`if __name__ == "__main__":`, which they skip'
        )
    reasons = {nanny.reason for nanny in nannies if nanny.reason} or {"" if error is None else sentence(error)}
    return (
        f"no worker process has started on this machine: {'; '.join(sorted(reasons))}; see what they printed, ask for "
        "fewer with local:N if memory or processes are short, or use no cluster at all"
    )


@contextmanager
def _ended(cluster: LocalCluster, nannies: list[WatchedNanny], folder: ExitStack) -> Iterator[None]:
    """Close the cluster in bounded time; Dask may wait forever for a process that is just being replaced.

    Processes that are still starting then need the folder, to connect and to be told to end.
    """
    try:
        yield
    finally:
        for nanny in nannies:
            cluster.loop.add_callback(nanny.give_up)
        closing = threading.Thread(target=_close, args=[cluster], name="hfnumba-close", daemon=True)
        closing.start()
        closing.join(_CLOSE_S)
        if closing.is_alive():
            for nanny in nannies:
                nanny.kill_process()
            closing.join(_CLOSE_S)
            if closing.is_alive():
                _log.error("the local cluster does not close; these processes may still run: %s", _pids(nannies))
                _UNCLOSED.append(folder.pop_all())


def _close(cluster: LocalCluster) -> None:
    """Close a cluster; what Dask meets in that, after the processes have ended, is of no use to a user."""
    try:
        cluster.close()
    except Exception as error:
        _log.debug("the local cluster is not closed in order: %r", error)


def _pids(nannies: Iterable[WatchedNanny]) -> str:
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
