"""The words of ``--cluster``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hfnumba.errors import UsageError
from hfnumba.launch.address import connected
from hfnumba.launch.job import KINDS, current
from hfnumba.launch.local import has_dashboard, local
from hfnumba.processors import available_processors

if TYPE_CHECKING:
    from distributed import Client

_WORDS = "none, local, local:N, tcp://HOST:PORT, tls://HOST:PORT, mpi or slurm"


@dataclass(frozen=True)
class Placement:
    """Where a computation runs.

    Attributes
    ----------
    client : distributed.Client or None
        None: in this process.
    description : str
        One sentence for a person: workers, threads, the dashboard's address.
    """

    client: Client | None
    description: str


def parse(spec: str) -> tuple[str, int | None]:
    """Split a word of ``--cluster`` into its kind (none, local, address, mpi, slurm) and the number of workers.

    Raises
    ------
    UsageError
        If there is no such word.
    """
    if spec in ("none", "local", *KINDS):
        return spec, None
    if spec.startswith(("tcp://", "tls://")):
        return "address", None
    kind, _, number = spec.partition(":")
    if kind == "local" and number.isdecimal() and int(number) > 0:
        return kind, int(number)
    raise UsageError(f"expected --cluster to be {_WORDS}, got {spec!r}")


@contextmanager
def open_cluster(spec: str, n_threads: int | None = None) -> Iterator[Placement]:
    """Yield where to compute, and take down what was started for it.

    Parameters
    ----------
    spec : str
        ``none``: this process. ``local``: a worker process per processor; ``local:N``: N of them.
        ``tcp://HOST:PORT`` or ``tls://HOST:PORT``: a scheduler that runs; it is left running.
        ``mpi`` or ``slurm``: the ranks of the job whose client this process is; once in a process.
    n_threads : int, optional
        Threads of this process (by default one per processor) or of each worker (by default 1).

    Yields
    ------
    Placement

    Raises
    ------
    UsageError
        If ``spec`` is none of these, threads are asked of a cluster that runs already, or this process is the
        client of no such job.
    ClusterError
        If the cluster does not start or cannot be reached.
    """
    kind, n_workers = parse(spec)
    if n_threads is not None and n_threads < 1:
        raise UsageError(f"expected at least 1 thread, got {n_threads}")
    if kind == "none":
        n = n_threads or available_processors()
        yield Placement(None, f"this process, {n} thread{'s' if n > 1 else ''}")
    elif kind == "local":
        with local(n_workers, n_threads=n_threads or 1) as client:
            link = f", dashboard {client.dashboard_link}" if has_dashboard() else ""
            yield Placement(client, _describe(client, "local cluster") + link)
    elif kind in KINDS:
        with current(kind).cluster(n_threads or 1) as client:
            where = f"{kind} cluster at {client.scheduler.address}"
            yield Placement(client, _describe(client, where) + _link(client))
    elif n_threads is not None:
        raise UsageError(f"the workers at {spec} have their own number of threads; leave --threads out")
    else:
        with connected(spec) as client:
            yield Placement(client, _describe(client, f"cluster at {spec}"))


def _link(client: Client) -> str:
    """Tell where the dashboard is; Dask would name the scheduler's address, at which it does not listen."""
    if not has_dashboard():
        return ""
    return f", dashboard http://127.0.0.1:{urlsplit(client.dashboard_link).port}/status on the scheduler's machine"


def _describe(client: Client, where: str) -> str:
    threads = list(client.nthreads().values())
    each = f"{threads[0]}" if len(set(threads)) == 1 else f"{min(threads)} to {max(threads)}"
    workers = f"{len(threads)} worker{'s' if len(threads) > 1 else ''}"
    return f"{where}, {workers} × {each} thread{'' if each == '1' else 's'}"
