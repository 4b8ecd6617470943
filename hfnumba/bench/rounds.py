"""Cost of one round: a vector sent to every worker, an empty evaluation, one reduced vector returned.

Three implementations, one after another on the same machine: the engine of this package, plain Dask futures (scatter
with broadcast, one task per worker, a tree of additions), and broadcast and reduction of mpi4py (as many ranks as
workers), if mpi4py and ``mpirun`` are installed. The scheduler has its own process, so that its processor time can be
read.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client
from distributed.deploy.subprocess import SubprocessCluster
from numpy.typing import NDArray

from hfnumba.bench.scaling import Probe, problem_of
from hfnumba.engine.cluster.engine import DaskEngine
from hfnumba.engine.protocol import Round
from hfnumba.engine.rows import ArraySource
from hfnumba.launch import sockets
from hfnumba.launch.security import environment, private_folder
from hfnumba.network import Network

SIZES = {"784-400-10": 318_010, "360-512-512-512-1973": 1_722_293}
PURPOSES = {
    "784-400-10": "MNIST's digits, a vector of 1.3 MB",
    "360-512-512-512-1973": "speech of TIMIT's size, a vector of 6.9 MB",
}
"""What the networks are for, as the measurements explain them."""
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
class Timing:
    """Median milliseconds of a round, and processor time of the scheduler per round (None without a scheduler)."""

    way: str
    network: str
    workers: int
    milliseconds: float
    scheduler_ms: float | None
    nbytes: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)


def timings(workers: tuple[int, ...], repeats: int) -> Iterator[Timing]:
    """Measure every number of workers and both lengths of vector.

    ``nbytes`` counts both directions, for one worker.
    """
    for n_workers in workers:
        with _cluster(n_workers) as cluster, Client(cluster) as client:
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


@contextmanager
def _cluster(n_workers: int) -> Iterator[Any]:
    """Start processes that are connected as those of a local cluster."""
    with private_folder() as folder, environment({"DASK_LOGGING__DISTRIBUTED": "error"}):
        cluster = SubprocessCluster(
            host=sockets.host(folder),
            n_workers=n_workers,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"preload": [sockets.__name__], "dashboard": False},
            worker_kwargs={"preload": [sockets.__name__], "preload_nanny": [sockets.__name__]},
            silence_logs=40,
        )
        with cluster:
            yield cluster


def _engine(client: Client, n_workers: int) -> Callable[[Array], Any]:
    """Round of this package; one partition per worker, so that no sums within a worker are measured."""
    source = ArraySource.of(np.zeros((n_workers, 1)), np.zeros(n_workers, int), n_workers, 1.0, 0.0)
    engine = DaskEngine(problem_of(Network([1, 1]), source), client, 60.0)

    def call(v: Array) -> Any:
        name = uuid.uuid4().hex
        return engine.run(Round((Probe(name, name),), {name: v}))[0]

    return call


def _futures(client: Client, n_workers: int) -> Callable[[Array], Any]:
    """Round of plain futures: the vector scattered to all workers, one task pinned to each, additions in pairs."""
    addresses = sorted(client.scheduler_info()["workers"])
    assert len(addresses) == n_workers

    def call(v: Array) -> Any:
        sent = client.scatter(v, broadcast=True, hash=False)
        results = [client.submit(np.copy, sent, workers=[address], pure=False) for address in addresses]
        while len(results) > 1:
            pairs = [client.submit(np.add, *results[i : i + 2], pure=False) for i in range(0, len(results) - 1, 2)]
            results = pairs + results[2 * len(pairs) :]
        return results[0].result()

    return call


def _timed(client: Client, call: Callable[[Array], Any], v: Array, n_workers: int, repeats: int) -> tuple[float, float]:
    """Median milliseconds of a round, and mean milliseconds of processor time of the scheduler."""
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
    """Seconds of each round by mpi4py; empty if it cannot run."""
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
