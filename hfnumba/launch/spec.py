"""Values of ``--cluster``, and the clusters they open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hfnumba.errors import UsageError
from hfnumba.launch.address import connected
from hfnumba.launch.connection import scheduler_answer
from hfnumba.launch.job import KINDS, current
from hfnumba.launch.local import local
from hfnumba.launch.security import has_dashboard
from hfnumba.processors import available_processors

if TYPE_CHECKING:
    from distributed import Client

_WORDS = "none, local, local:N, tcp://HOST:PORT, tls://HOST:PORT, mpi or slurm"


@dataclass(frozen=True)
class Placement:
    """Place where a computation runs.

    Attributes
    ----------
    client : distributed.Client or None
        Client of the cluster; None for this process.
    description : str
        Sentence for the user: workers, threads, address of the dashboard.
    """

    client: Client | None
    description: str


def is_address(spec: str) -> bool:
    """Whether a value of ``--cluster`` is the address of a running scheduler."""
    return spec.startswith(("tcp://", "tls://"))


def parse(spec: str) -> tuple[str, int | None]:
    """Split a value of ``--cluster`` into its kind (none, local, address, mpi, slurm) and the number of workers.

    Raises
    ------
    UsageError
        If the value is invalid.
    """
    if spec in ("none", "local", *KINDS):
        return spec, None
    if is_address(spec):
        return "address", None
    kind, _, number = spec.partition(":")
    if kind == "local" and number.isdecimal() and int(number) > 0:
        return kind, int(number)
    raise UsageError(f"expected --cluster to be {_WORDS}, got {spec!r}")


@contextmanager
def open_cluster(spec: str, n_threads: int | None = None, timeout_s: float = 60.0) -> Iterator[Placement]:
    """Yield the place to compute, and shut down what was started for it.

    Parameters
    ----------
    spec : str
        Value of ``--cluster``. ``none``: this process. ``local``: one worker process per processor; ``local:N``: N of
        them. ``tcp://HOST:PORT`` or ``tls://HOST:PORT``: a running scheduler, which is left running. ``mpi`` or
        ``slurm``: the ranks of the job whose client is this process; once per process.
    n_threads : int, optional
        Number of threads of this process (default one per processor) or of each worker (default 1).
    timeout_s : float
        Seconds without a sign of life after which a worker that starts is replaced, or not waited for.

    Yields
    ------
    Placement

    Raises
    ------
    UsageError
        If ``spec`` is invalid, ``n_threads`` is given for a running cluster, or this process is no client of a job.
    ClusterError
        If the cluster does not start or cannot be reached.
    StoppedError
        If a signal arrives that ends a run.
    """
    kind, n_workers = parse(spec)
    if n_threads is not None and n_threads < 1:
        raise UsageError(f"expected at least 1 thread, got {n_threads}")
    if kind == "none":
        n = n_threads or available_processors()
        yield Placement(None, f"this process, {n} thread{'s' if n > 1 else ''}")
    elif kind == "local":
        with local(n_workers, n_threads=n_threads or 1, timeout_s=timeout_s) as client:
            link = f", dashboard {client.dashboard_link}" if has_dashboard() else ""
            yield Placement(client, _description(client, "local cluster") + link)
    elif kind in KINDS:
        with current(kind).client(n_threads or 1, timeout_s) as client:
            where = f"{kind} cluster at {client.scheduler.address}"
            yield Placement(client, _description(client, where) + _link(client))
    elif n_threads is not None:
        raise UsageError(f"the workers at {spec} have their own number of threads; leave --threads out")
    else:
        with connected(spec, timeout_s) as client:
            yield Placement(client, _description(client, f"cluster at {spec}"))


def _link(client: Client) -> str:
    """Address of the dashboard; Dask would give the address of the scheduler, at which it does not listen."""
    if not has_dashboard():
        return ""
    return f", dashboard http://127.0.0.1:{urlsplit(client.dashboard_link).port}/status on the scheduler's machine"


def _description(client: Client, where: str) -> str:
    found: dict[str, int] = client.sync(scheduler_answer, client.scheduler.ncores())
    threads = list(found.values())
    if not threads:
        return f"{where}, whose workers have been lost and are awaited"
    each = f"{threads[0]}" if len(set(threads)) == 1 else f"{min(threads)} to {max(threads)}"
    workers = f"{len(threads)} worker{'s' if len(threads) > 1 else ''}"
    return f"{where}, {workers} × {each} thread{'' if each == '1' else 's'}"
