"""The cost of one round: a vector out to every worker, an empty evaluation, one reduced vector back.

Three ways, one after another on the same machine: this package's engine, plain Dask futures (scatter with broadcast,
a task a worker, a tree of additions), and mpi4py's broadcast and reduction (as many ranks as workers), where mpi4py
and ``mpirun`` are installed. The scheduler is a process of its own, so that its processor time can be read.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client
from distributed.deploy.subprocess import SubprocessCluster
from numpy.typing import NDArray

from hfnumba.engine.cluster.engine import DaskEngine
from hfnumba.engine.host import PartitionHost
from hfnumba.engine.protocol import Evaluation, Problem, Result, Round, Vectors
from hfnumba.engine.rows import ArraySource
from hfnumba.engine.tree import Sums
from hfnumba.network import Network
from hfnumba.objective import RowSample

SIZES = {"784-400-10": 318_010, "360-512-512-512-1973": 1_722_293}
_WARM_UP = 5
_MPI_TIMEOUT_S = 120
_MPI_PROGRAM = """
import json, sys, time
import numpy as np
from mpi4py import MPI
n, repeats = int(sys.argv[1]), int(sys.argv[2])
v, out, taken = np.ones(n, np.float32), np.empty(n, np.float32), []
for _ in range(repeats):
    MPI.COMM_WORLD.Barrier()
    start = time.perf_counter()
    MPI.COMM_WORLD.Bcast(v)
    MPI.COMM_WORLD.Reduce(v, out)
    taken.append(time.perf_counter() - start)
if MPI.COMM_WORLD.rank == 0:
    print(json.dumps(taken))
"""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Echo(Evaluation):
    """An evaluation that costs nothing: the vector itself, from each partition."""

    v: str

    @property
    def rows(self) -> RowSample | None:
        """No sample."""
        return None

    def results(self, problem: Problem, vectors: Vectors) -> Mapping[str, Result]:
        """Shape and dtype of the sum."""
        return {"sum": Result(vectors[self.v].shape, vectors[self.v].dtype)}

    def __call__(self, host: PartitionHost, j: int, shared: None) -> Sums:
        """A copy, since sums are added in place."""
        return (host.vectors[self.v].copy(),)


@dataclass(frozen=True)
class Timing:
    """Median milliseconds of a round, and the scheduler's processor time within one (None without a scheduler)."""

    way: str
    network: str
    workers: int
    milliseconds: float
    scheduler_ms: float | None
    nbytes: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def timings(workers: tuple[int, ...], repeats: int) -> Iterator[Timing]:
    """Measure every number of workers and both lengths of vector.

    ``nbytes`` are those of one worker, both ways.
    """
    for n_workers in workers:
        cluster = SubprocessCluster(
            host="127.0.0.1", n_workers=n_workers, threads_per_worker=1, dashboard_address=None, silence_logs=40
        )
        with cluster, Client(cluster) as client:
            client.wait_for_workers(n_workers)
            for network, n in SIZES.items():
                for way, make in (("engine", _engine), ("futures", _futures)):
                    v = np.random.default_rng(0).standard_normal(n, dtype=np.float32)
                    median, scheduler = _timed(client, make(client, n_workers), v, n_workers, repeats)
                    yield Timing(way, network, n_workers, median, scheduler, 2 * v.nbytes)
        for network, n in SIZES.items():
            taken = _mpi(n_workers, n, repeats)
            if taken:
                yield Timing("mpi4py", network, n_workers, 1e3 * float(np.median(taken)), None, 8 * n)


def _engine(client: Client, n_workers: int) -> Callable[[Array], Any]:
    """One partition a worker, so that what is measured is the round and not the sum within a worker."""
    source = ArraySource.of(np.zeros((n_workers, 1)), np.zeros(n_workers, int), n_workers, 1.0, 0.0)
    engine = DaskEngine(Problem(uuid.uuid4().hex, Network([1, 1]), source, np.dtype(np.float32)), client, 60.0)

    def call(v: Array) -> Any:
        name = uuid.uuid4().hex
        return engine.run(Round((Echo(name),), {name: v}))[0]

    return call


def _futures(client: Client, n_workers: int) -> Callable[[Array], Any]:
    """What one writes first: the vector scattered to all, a task pinned to each worker, additions in pairs."""
    addresses = sorted(client.scheduler_info()["workers"])
    assert len(addresses) == n_workers

    def call(v: Array) -> Any:
        sent = client.scatter(v, broadcast=True, hash=False)
        parts = [client.submit(np.copy, sent, workers=[address], pure=False) for address in addresses]
        while len(parts) > 1:
            pairs = [client.submit(np.add, *parts[i : i + 2], pure=False) for i in range(0, len(parts) - 1, 2)]
            parts = pairs + parts[2 * len(pairs) :]
        return parts[0].result()

    return call


def _timed(client: Client, call: Callable[[Array], Any], v: Array, n_workers: int, repeats: int) -> tuple[float, float]:
    """Median milliseconds of a round, and mean milliseconds of the scheduler's processor."""
    for _ in range(_WARM_UP):
        np.testing.assert_allclose(call(v), n_workers * v, rtol=1e-6)
    before, taken = client.run_on_scheduler(time.process_time), []
    for _ in range(repeats):
        start = time.perf_counter()
        call(v)
        taken.append(time.perf_counter() - start)
    spent = client.run_on_scheduler(time.process_time) - before
    return 1e3 * float(np.median(taken)), 1e3 * float(spent) / repeats


def _mpi(n_ranks: int, n: int, repeats: int) -> list[float]:
    """Seconds of each round by mpi4py; empty where it cannot run."""
    mpirun = shutil.which("mpirun", path=f"{Path(sys.executable).parent}:{Path('/usr/bin')}")
    if mpirun is None or find_spec("mpi4py") is None:
        return []
    command = [mpirun, "-n", str(n_ranks), sys.executable, "-c", _MPI_PROGRAM, str(n), str(repeats + _WARM_UP)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_MPI_TIMEOUT_S, check=True)
    except (subprocess.SubprocessError, OSError):
        return []
    found: list[float] = json.loads(done.stdout)[_WARM_UP:]
    return found
