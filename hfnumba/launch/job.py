"""Dask cluster formed from the ranks of one job: rank 0 is the scheduler, rank 1 the client, all others are workers.

Nothing starts before the client has checked its arguments, store and run: the other ranks wait for its first message,
which has the settings of the cluster, or ends the job. Its last message is the exit status of all ranks.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal

from hfnumba.errors import ClusterError, UsageError
from hfnumba.launch.address import identity
from hfnumba.launch.connection import CLOSE_TIMEOUT_S, SCHEDULER_TIMEOUT_S, connection, scheduler_answer
from hfnumba.launch.local import THREAD_VARIABLES
from hfnumba.launch.mpi import announced, mpi_ranks
from hfnumba.launch.pipe_queue import without_semaphores
from hfnumba.launch.ranks import CLIENT, PATIENCE_S, SCHEDULER, Ranks, end_with_parent
from hfnumba.launch.security import configure, has_dashboard, make_keys, private_folder
from hfnumba.launch.slurm import slurm_ranks
from hfnumba.processors import available_memory
from hfnumba.stop import SIGNALS, unless_stopped
from hfnumba.versions import check_versions

if TYPE_CHECKING:
    from distributed import Client

Kind = Literal["mpi", "slurm"]
KINDS: tuple[Kind, ...] = ("mpi", "slurm")

INTERFACE_VARIABLE = "HFNUMBA_INTERFACE"
"""Environment variable with the network interface to use between machines, such as ib0."""

_WORKERS_TIMEOUT_S, _STATUS_TIMEOUT_S = 120.0, 120.0
_log = logging.getLogger(__name__)
_LOOPBACK = "127.0.0.1"


class RankCluster:
    """Cluster of the ranks of a job, in the process of the client.

    Parameters
    ----------
    kind : {"mpi", "slurm"}
    ranks : Ranks
    """

    def __init__(self, kind: Kind, ranks: Ranks) -> None:
        self.kind, self.encrypted = kind, True
        self._ranks = ranks
        self._state: Literal["waiting", "forming", "gone"] = "waiting"

    @contextmanager
    def client(self, n_threads: int, timeout_s: float) -> Iterator[Client]:
        """Form the cluster, yield a client of it, and shut it down; only once per job.

        Parameters
        ----------
        n_threads : int
            Number of threads of each worker.
        timeout_s : float
            Seconds without a sign of life after which a worker that starts is replaced.

        Raises
        ------
        ClusterError
            If a rank fails, no worker connects within ten minutes, or one has other versions.
        StoppedError
            If a signal arrives that ends a run.
        """
        if self._state != "waiting":
            raise ClusterError(f"the ranks of this job have already formed a cluster; start {self.kind} again")
        self._ranks.bcast({"n_threads": n_threads, "encrypted": self.encrypted, "timeout_s": timeout_s}, CLIENT)
        self._state = "forming"
        _form(self._ranks, n_threads, self.encrypted, timeout_s)
        # The wait for a scheduler that is frozen ends at a signal here, but not while a client is made.
        try:
            identity(_scheduler_address(), SCHEDULER_TIMEOUT_S)
        except ClusterError as error:
            raise ClusterError(
                f"the scheduler of this job, its first rank, does not answer ({error}); see what that rank printed, or "
                "name the network interface in HFNUMBA_INTERFACE"
            ) from error
        with connection() as client:
            try:
                client.sync(self._check, client, timeout_s)
                yield client
            finally:
                # Without a scheduler, shutdown would try to reach it for half a minute.
                if client.status == "running":
                    client.sync(_shut_down, client)
                self._state = "gone"

    async def _check(self, client: Client, timeout_s: float) -> None:
        """Wait for the workers: two minutes for all, then for the first."""
        from hfnumba.launch.lifeline import Lifeline  # noqa: PLC0415 - distributed is slow to import

        await scheduler_answer(client.register_plugin(Lifeline()))
        n_workers = self._ranks.size - 2
        try:
            await unless_stopped(client.wait_for_workers(n_workers), _WORKERS_TIMEOUT_S)
        except TimeoutError:
            _log.warning("some workers have not connected within %.0f s; the run begins without", _WORKERS_TIMEOUT_S)
        try:
            await unless_stopped(client.wait_for_workers(1), PATIENCE_S - _WORKERS_TIMEOUT_S)
        except TimeoutError:
            raise ClusterError(
                f"none of {n_workers} workers connected within {PATIENCE_S:.0f} s; if the machines cannot reach each "
                f"other, name their network interface in {INTERFACE_VARIABLE}"
            ) from None
        await check_versions(client, f"{self.kind} cluster", timeout_s)

    def end(self, status: int) -> None:
        """End all ranks with an exit status; the last call of the client."""
        if self._state == "forming":
            self._ranks.abort(status or 1)
        # Ranks that have failed have printed their error, and need no status.
        with suppress(ClusterError):
            self._ranks.bcast({"status": status}, CLIENT)
            self._ranks.close(status)


async def _shut_down(client: Client) -> None:
    """End the scheduler, and with it all workers; one that is frozen is killed when the ranks end."""
    with suppress(OSError):
        await asyncio.wait_for(client.shutdown(), CLOSE_TIMEOUT_S)


def _scheduler_address() -> str:
    import dask  # noqa: PLC0415 - not needed without a cluster

    return str(dask.config.get("scheduler-address"))


_current: RankCluster | None = None


def current(kind: str) -> RankCluster:
    """Cluster of the job whose client is this process.

    Raises
    ------
    UsageError
        If this process is not the client of a job of this kind.
    """
    if _current is None or _current.kind != kind:
        command = {"mpi": "mpirun", "slurm": "srun"}[kind]
        raise UsageError(
            f"--cluster {kind} needs {command} to start the command, with this option on the command line; "
            f"use {command} -n 4 hfnumba train … --cluster {kind}, or another --cluster"
        )
    return _current


def without_encryption() -> None:
    """Disable the encryption of the cluster of this job, which opens it to everyone who can reach its ports.

    Raises
    ------
    UsageError
        If this process is not the client of a job.
    """
    if _current is None:
        raise UsageError("--insecure is only for --cluster mpi and --cluster slurm; hfnumba encrypts no other cluster")
    _current.encrypted = False


def join(kind: Kind) -> tuple[Ranks, RankCluster | None]:
    """Join the other ranks; return them, and for the client its cluster. Other ranks continue with :func:`serve`.

    From here on this process ends with its parent process, and ranks other than the client ignore signals.

    Raises
    ------
    UsageError, ClusterError
        If the ranks cannot join, are fewer than three, or a package is missing; raised in all ranks.
    """
    global _current
    if importlib.util.find_spec("dask_mpi") is None:
        raise UsageError(f"--cluster {kind} needs the package dask-mpi; run `pip install 'hfnumba[{kind}]'`")
    ranks: Ranks = mpi_ranks() if kind == "mpi" else slurm_ranks()
    _quieten()
    end_with_parent(ranks.rank == CLIENT)
    if ranks.rank == CLIENT:
        _current = RankCluster(kind, ranks)
        return ranks, _current
    for number in SIGNALS:
        # For all threads, including those of MPI, and for the worker processes, which inherit it.
        signal.signal(number, signal.SIG_IGN)
    return ranks, None


def _quieten() -> None:
    """Silence log messages of Dask about handled events, in this process and the worker processes.

    Lost workers are replaced, the client reports failed computations, and Dask sometimes logs closing connections as
    errors at the end. ``DASK_LOGGING__DISTRIBUTED=info`` in the environment shows everything.
    """
    if not any(name.startswith("DASK_LOGGING") for name in os.environ):
        os.environ["DASK_LOGGING"] = repr(dict.fromkeys(("distributed", "distributed.client"), "critical"))


def announced_rank(kind: Kind) -> int:
    """Rank of this process by its environment, also if the ranks cannot be joined."""
    if kind == "mpi":
        return announced()[0]
    rank = os.environ.get("SLURM_PROCID", "")
    return int(rank) if rank.isdecimal() else 0


def serve(ranks: Ranks) -> int:
    """Run the scheduler or a worker until the client ends the job; return the exit status it sends.

    Raises
    ------
    ClusterError
        If the client or another rank has failed.
    """
    message = ranks.bcast(None, CLIENT)
    if "status" not in message:
        _form(ranks, message["n_threads"], message["encrypted"], message["timeout_s"])
        message = ranks.bcast(None, CLIENT, _STATUS_TIMEOUT_S)
    status = int(message["status"])
    ranks.close(status)
    return status


@private_folder()
def _form(ranks: Ranks, n_threads: int, encrypted: bool, timeout_s: float) -> None:
    """Start the scheduler or worker of this rank and return when it ends; in the client return at once."""
    from dask_mpi import initialize  # noqa: PLC0415 - slow to import

    without_semaphores()
    if encrypted:
        configure(ranks.bcast(make_keys() if ranks.rank == SCHEDULER else None, SCHEDULER))
    initialize(
        comm=ranks,
        exit=False,
        protocol="tls" if encrypted else "tcp",
        interface=_interface(ranks),
        nthreads=n_threads,
        dashboard=has_dashboard(),
        dashboard_address=f"{_LOOPBACK}:0",
        # The nanny restarts a killed worker; without it MPI would end the whole job.
        worker_class="hfnumba.launch.nanny.WatchedNanny",
        memory_limit=_worker_memory(ranks),
        worker_options={
            "env": dict.fromkeys(THREAD_VARIABLES, "1"),
            "dashboard_address": f"{_LOOPBACK}:0",
            "death_timeout": PATIENCE_S,
            "silence_s": timeout_s,
        },
    )


def _worker_memory(ranks: Ranks) -> int:
    """Bytes of memory of a worker: an equal share of what the workers on this machine may use together.

    Dask would estimate the share from the worker's threads, and sees no limit of a batch system. On a machine that also
    has the scheduler and the client these count like workers, but not where all ranks are there.
    """
    return available_memory() // min(ranks.n_here, ranks.size - 2)


def _interface(ranks: Ranks) -> str | None:
    """Return the network interface to listen on: the one the user names, or loopback if there is only one machine."""
    named = os.environ.get(INTERFACE_VARIABLE)
    if named or ranks.n_here < ranks.size:
        return named or None
    import psutil  # noqa: PLC0415 - distributed needs it too

    for interface, addresses in psutil.net_if_addrs().items():
        if any(address.address == _LOOPBACK for address in addresses):
            return str(interface)
    return None
