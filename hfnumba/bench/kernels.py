"""GFLOP/s of loss, gradient, curvature products and Kronecker factors, against sgemm on this machine and against peers.

All measurements of a cell take turns in one process, and medians are compared, so that a temporary slowdown of the
machine affects all of them. Operations are counted minimally, per row with W weights, W_1 of them in the
first layer (whose input needs no derivative): loss 2W, gradient 6W - 2W_1, Hv 12W - 8W_1, Gv 8W - 4W_1; Kronecker
factors 4W - 2W_1 for forward and backward pass, and n (n + 1), half of a matrix product, for a factor of order n.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hfnumba.bench.peers import PEERS, Evaluations, Problem, versions
from hfnumba.engine import ArrayObjective
from hfnumba.engine.evaluations import KroneckerFactors
from hfnumba.kernels.blas import arithmetic, limit_blas_threads
from hfnumba.kernels.blocks import BLOCK_ROWS
from hfnumba.network import Network
from hfnumba.processors import available_processors

NETWORKS = {"A": (784, 400, 10), "B": (784, 400, 150, 10), "C": (360, 512, 512, 512, 1973)}
PURPOSES = {
    "A": "MNIST's digits, one hidden layer",
    "B": "MNIST's digits, two hidden layers",
    "C": "speech of TIMIT's size: 9 frames of 40 features, 1973 states",
}
"""What the networks are for, as the measurements explain them."""
ROWS = (512, 4096, 16384)
MANY_ROWS = 60000
EVALUATIONS = ("loss", "gradient", "Hv", "Gv")
"""Evaluations that peers have as well."""
OUR_EVALUATIONS = (*EVALUATIONS, "factors")
_SGEMM_REPEATS = 4
_SQUARE = 768
_SETTLE_S = _TURN_S = 0.02


@dataclass(frozen=True)
class Row:
    """Measurement of one evaluation of one network."""

    network: str
    activation: str
    rows: int
    evaluation: str
    gflops: float
    of_peak: float
    ratios: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON, and the layers of the network."""
        return asdict(self) | {"sizes": NETWORKS[self.network]}

    @property
    def title(self) -> str:
        """Layers of the network and its purpose, activation and number of rows."""
        layers = "-".join(map(str, NETWORKS[self.network]))
        return f"{layers} ({PURPOSES[self.network]}), {self.activation}, {self.rows:,} rows"


def setting(n_threads: int | None, peers: tuple[str, ...]) -> str:
    """Describe the measurement: threads, processor, BLAS, and versions of the peers."""
    limit_blas_threads()
    beside = f"; compared with {versions(peers)}" if peers else ""
    return f"{n_threads or available_processors()} threads, BLAS at one thread each; {arithmetic()}{beside}"


def flops(sizes: tuple[int, ...], evaluation: str) -> int:
    """Minimal number of operations per row."""
    w = sum(a * b for a, b in itertools.pairwise(sizes))
    first = sizes[0] * sizes[1]
    triangles = sum(a * (a + 1) + b * (b + 1) for a, b in itertools.pairwise(sizes))
    return {
        "loss": 2 * w,
        "gradient": 6 * w - 2 * first,
        "Hv": 12 * w - 8 * first,
        "Gv": 8 * w - 4 * first,
        "factors": 4 * w - 2 * first + triangles,
    }[evaluation]


def our_evaluations(problem: Problem, n_threads: int) -> Evaluations:
    """Evaluations by the public interface, and Kronecker factors, each with an objective of its own.

    An objective compares theta with the one of its last linearisation, which would save work that no optimiser repeats.
    """

    def objective() -> ArrayObjective:
        return ArrayObjective(problem.network, problem.X, problem.y, n_threads=n_threads)

    def value(method: str) -> Callable[[], Any]:
        evaluate = getattr(objective(), method)
        return lambda: evaluate(problem.theta)

    def product(curvature: str) -> Callable[[], Any]:
        operator = getattr(objective().linearize(problem.theta), curvature)()
        return lambda: operator.matvec(problem.v)

    def factors() -> Callable[[], Any]:
        one = objective()
        name = one.vectors.acquire(problem.theta)
        return lambda: one.evaluate(KroneckerFactors(name))

    return {
        "loss": lambda: value("value"),
        "gradient": lambda: value("value_and_gradient"),
        "Hv": lambda: product("hessian"),
        "Gv": lambda: product("gauss_newton"),
        "factors": factors,
    }


def sgemm(sizes: tuple[int, ...], n_threads: int) -> dict[str, tuple[Callable[[], Any], float]]:
    """NumPy's sgemm on all threads at once, for a large square and for each layer of a block: (call, GFLOP)."""
    rng = np.random.default_rng(0)
    pool = ThreadPoolExecutor(n_threads)
    shapes = {(_SQUARE, _SQUARE, _SQUARE)} | {(BLOCK_ROWS, a, b) for a, b in itertools.pairwise(sizes)}

    def job(m: int, k: int, n: int) -> tuple[Callable[[], Any], float]:
        operands = [
            (rng.standard_normal((m, k), dtype=np.float32), rng.standard_normal((k, n), dtype=np.float32))
            for _ in range(n_threads)
        ]
        outs = [np.empty((m, n), np.float32) for _ in range(n_threads)]
        repeats = max(1, int(_SGEMM_REPEATS * _SQUARE**3 / (m * k * n)))

        def work(i: int) -> None:
            for _ in range(repeats):
                np.matmul(*operands[i], out=outs[i])

        return lambda: list(pool.map(work, range(n_threads))), 2e-9 * m * k * n * repeats * n_threads

    return {f"sgemm {m}x{k}x{n}": job(m, k, n) for m, k, n in shapes}


def measure(jobs: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Median of the faster half of the times of each job; jobs take turns for ``seconds``, at least twice.

    A turn is one untimed call, then as many timed ones as fit into 20 ms, like the loop of a solver, and as long as a
    turn of sgemm.
    """
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for call in jobs.values():
        call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(times.values()))) < 2:
        for name, call in jobs.items():
            times[name].append(_turn(call))
    return {name: float(np.median(sorted(taken)[: (len(taken) + 1) // 2])) for name, taken in times.items()}


def _turn(call: Callable[[], Any]) -> float:
    """Seconds per call, in a loop."""
    # Threads of the library before this one spin for a while and would slow this job. This thread waits actively: after
    # a sleep, Linux may place all threads that it wakes on one processor.
    settled = time.perf_counter() + _SETTLE_S
    while time.perf_counter() < settled:
        pass
    call()
    start, n_calls = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < _TURN_S or n_calls == 0:
        call()
        n_calls += 1
    return passed / n_calls


def cells(peers: tuple[str, ...], seconds: float, n_threads: int | None, quick: bool) -> Iterator[list[Row]]:
    """Measure cell by cell; with ``quick``, only tanh and 4096 rows.

    Parameters
    ----------
    peers : tuple of str
        Names of installed peers of :data:`hfnumba.bench.peers.PEERS`.
    seconds : float
        Time per cell, without compilation by peers.
    n_threads : int, optional
        Number of threads of hfnumba; peers use the default of their libraries.
    """
    threads = n_threads or available_processors()
    for name, sizes in NETWORKS.items():
        sizes_of_rows = ROWS if name == "C" else (*ROWS, MANY_ROWS)
        for activation in ("tanh",) if quick else ("tanh", "relu"):
            for rows in (4096,) if quick else sizes_of_rows:
                problem = random_problem(Network(sizes, activation), rows)
                yield _cell(name, problem, peers, seconds, threads)


def random_problem(network: Network, rows: int) -> Problem:
    """Make normal features, uniform labels, the default initial theta, and a normal v."""
    rng = np.random.default_rng(0)
    return Problem(
        network,
        rng.standard_normal((rows, network.n_features), dtype=np.float32),
        rng.integers(0, network.n_outputs, rows).astype(np.int32),
        np.asarray(network.initialize(0), np.float32),
        rng.standard_normal(network.n_params, dtype=np.float32),
    )


def _cell(name: str, problem: Problem, peers: tuple[str, ...], seconds: float, n_threads: int) -> list[Row]:
    network, rows = problem.network, len(problem.X)
    jobs = {f"hfnumba {key}": prepare() for key, prepare in our_evaluations(problem, n_threads).items()}
    gemms = sgemm(network.sizes, n_threads)
    jobs |= {key: call for key, (call, _) in gemms.items()}
    for peer in peers:
        jobs |= {f"{peer} {key}": prepare() for key, prepare in PEERS[peer](problem).items()}
    seconds_of = measure(jobs, seconds)
    peak = max(gflop / seconds_of[key] for key, (_, gflop) in gemms.items())
    out = []
    for key in OUR_EVALUATIONS:
        rate = 1e-9 * flops(network.sizes, key) * rows / seconds_of[f"hfnumba {key}"]
        ours = seconds_of[f"hfnumba {key}"]
        ratios = {peer: seconds_of[f"{peer} {key}"] / ours for peer in peers if f"{peer} {key}" in seconds_of}
        out.append(Row(name, network.activations[0], rows, key, rate, rate / peak, ratios))
    return out
