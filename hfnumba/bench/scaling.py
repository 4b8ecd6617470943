"""Measurement of the constants of the model of scaling (:mod:`hfnumba.bench.model`): kernels and rounds."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from distributed import Client
from numpy.typing import NDArray
from scipy.optimize import nnls

from hfnumba.bench.model import KINDS, Rate
from hfnumba.engine.cluster.engine import DaskEngine
from hfnumba.engine.evaluations import Gradient, LineLosses, Product
from hfnumba.engine.host import PartitionHost
from hfnumba.engine.protocol import Evaluation, Problem, Result, Round, Vectors
from hfnumba.engine.rows import RowSource
from hfnumba.engine.tree import Sums, add_up
from hfnumba.network import Network
from hfnumba.objective import RowSample

TIMEOUT_S = 600.0
STAR = 1 << 30
"""Fan-in larger than any number of workers: the client contacts each worker directly."""
_FEW, _MANY, _SEVERAL = 16, 1024, 4
_ADDED = 8
_WARM_UP = 2

Array = NDArray[np.float32]


def problem_of(network: Network, source: RowSource) -> Problem:
    """Make a new problem in float32."""
    return Problem(uuid.uuid4().hex, network, source, np.dtype(np.float32))


def measure_rates(network: Network, source: RowSource, *, points: int, repeats: int) -> dict[str, Rate]:
    """Measure the rates of each evaluation on one thread: medians at three sizes, solved for the rates.

    Parameters
    ----------
    network : Network
    source : RowSource
        Source whose first partitions are read.
    points : int
        Number of candidates, and of step lengths.
    repeats : int
    """
    host = PartitionHost(problem_of(network, source), 1)
    theta = network.initialize(0)
    lines = np.tile(theta, points)
    several = min(_SEVERAL, source.n_partitions)
    in_first = source.partition_rows(0)[1]
    rates = {}
    try:
        for kind in KINDS:
            few, many = min(_FEW, in_first), min(_MANY, in_first)
            taken = [
                _seconds_of(
                    host,
                    kind,
                    _evaluation(kind, _sample(source, rows), points),
                    n,
                    theta=theta,
                    other=lines if kind == "ranking" else theta,
                    repeats=repeats,
                )
                for rows, n in ((few, 1), (many, 1), (few, several))
            ]
            rates[kind] = _solved(few, many, several, taken, points if kind in ("ranking", "line") else 1)
    finally:
        host.close()
    return rates


def _sample(source: RowSource, rows: int) -> RowSample:
    """Sample with ``rows`` rows of each partition."""
    return RowSample(min(source.n_rows, rows * source.n_partitions))


def _evaluation(kind: str, sample: RowSample, points: int) -> Callable[[str, str], Evaluation]:
    """Function that makes an evaluation from the names of theta and of another vector."""
    if kind == "gradient":
        return lambda theta, _: Gradient(theta, sample)
    if kind == "ranking":
        return lambda theta, v: LineLosses(theta, v, (1.0,), sample)
    if kind == "line":
        alphas = tuple(2.0**-k for k in range(points))
        return lambda theta, v: LineLosses(theta, v, alphas, sample)
    return lambda theta, v: Product(theta, v, True, sample)


def _seconds_of(
    host: PartitionHost,
    kind: str,
    make: Callable[[str, str], Evaluation],
    n_partitions: int,
    *,
    theta: Array,
    other: Array,
    repeats: int,
) -> float:
    """Median time of an evaluation on the first partitions."""
    taken = []
    for k in range(repeats + _WARM_UP):
        # The primal pass is cached by the name of theta; a new name causes a new one.
        name = f"theta{k}" if kind == "first_product" else "theta"
        host.receive({name: theta, "v": other}, [name, "v"])
        start = time.perf_counter()
        host.evaluate((make(name, "v"),), range(n_partitions))
        taken.append(time.perf_counter() - start)
    return float(np.median(taken[_WARM_UP:]))


def _solved(few: int, many: int, several: int, taken: list[float], points: int) -> Rate:
    """Solve for the rates from times of few rows, of many rows, and of few rows in each of several partitions."""
    row_s = max(0.0, (taken[1] - taken[0]) / max(1, many - few))
    partition_s = max(0.0, (taken[2] - taken[0]) / max(1, several - 1) - row_s * few)
    worker_s = max(0.0, taken[0] - row_s * few - partition_s)
    return Rate(row_s / points, partition_s, worker_s / points)


@dataclass(frozen=True)
class NoRows:
    """Source with sizes only, for evaluations that compute nothing."""

    n_rows: int
    n_partitions: int
    n_features: int = 1
    scale: float = 1.0
    offset: float = 0.0

    def partition_rows(self, j: int) -> tuple[int, int]:
        """First row of partition j and the row after its last."""
        return j * self.n_rows // self.n_partitions, (j + 1) * self.n_rows // self.n_partitions

    @property
    def autoencodes(self) -> bool:
        """Always False."""
        return False

    @property
    def weighted(self) -> bool:
        """Always False."""
        return False

    @property
    def x_dtype(self) -> np.dtype[Any]:
        """Dtype of the features."""
        return np.dtype(np.float32)

    def load_compact(self, j: int) -> Mapping[str, NDArray[Any]]:
        """Return no arrays."""
        return {}

    def compact_nbytes(self, j: int) -> int:
        """Always 0."""
        return 0

    def expand(self, compact: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return arrays of no rows."""
        return np.empty((0, self.n_features), np.float32), np.empty(0, np.int32)


@dataclass(frozen=True)
class Probe(Evaluation):
    """Evaluation without computing: one vector is sent, and another, which the worker has, is returned.

    With the same name for both, the vector is sent and returned.
    """

    out: str
    back: str

    @property
    def rows(self) -> RowSample | None:
        """Always None: no sample."""
        return None

    def results(self, problem: Problem, vectors: Vectors) -> Mapping[str, Result]:
        """Shape and dtype of the sum."""
        return {"sum": Result(vectors[self.back].shape, vectors[self.back].dtype)}

    def __call__(self, host: PartitionHost, j: int, shared: None) -> Sums:
        """Return a copy, because sums are added in place."""
        return (host.vectors[self.back].copy(),)


def remote_engine(problem: Problem, client: Client, fan_in: int) -> DaskEngine:
    """Engine that treats all workers as remote: vectors are sent by TCP."""
    return DaskEngine(problem, client, TIMEOUT_S, fan_in=fan_in, shared_memory=False)


def measure_rounds(
    client: Client, n_workers: int, n_params: int, repeats: int, fan_in: int = STAR
) -> list[dict[str, float]]:
    """Measure rounds that compute nothing: without vectors, with a vector sent, and with one returned, per worker.

    ``client_s`` is the processor time of the client.
    """
    engine = remote_engine(problem_of(Network([1, 1]), NoRows(n_workers, n_workers)), client, fan_in)
    large, small = np.ones(n_params, np.float32), np.ones(1, np.float32)
    kinds = {"nothing": (small, small), "out": (large, small), "back": (small, large)}
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    spent: dict[str, list[float]] = {kind: [] for kind in kinds}
    for k in range(repeats + _WARM_UP):
        for kind, (out, back) in kinds.items():
            vectors = {f"{kind}{k}": out, f"back {back.size}": back}
            if kind == "back":
                engine.run(Round((Probe(f"back {back.size}", f"back {back.size}"),), {f"back {back.size}": back}))
            start, busy = time.perf_counter(), time.process_time()
            engine.run(Round((Probe(f"{kind}{k}", f"back {back.size}"),), vectors))
            taken[kind].append(time.perf_counter() - start)
            spent[kind].append(time.process_time() - busy)
    engine.close()
    found: list[dict[str, float]] = []
    for kind, (out, back) in kinds.items():
        seconds, client_s = (float(np.median(some[kind][_WARM_UP:])) for some in (taken, spent))
        one = {"workers": n_workers, "out": out.nbytes, "in": back.nbytes, "seconds": seconds, "client_s": client_s}
        found.append(one)
    return found


def relay_seconds(star: list[dict[str, float]], chain: list[dict[str, float]]) -> float:
    """Seconds that a level of relays adds: a chain compared with a star of as many workers, with tiny messages.

    Both have the same number of sequential messages; the chain has one level per worker.
    """
    empty = [{row["workers"]: row for row in rows if row["out"] == row["in"]} for rows in (star, chain)]
    levels = [(empty[1][p]["seconds"] - empty[0][p]["seconds"]) / (p - 1) for p in empty[1]]
    return max(0.0, float(np.median(levels)))


def measure_adding(n_params: int, repeats: int) -> float:
    """Measure the seconds in which the client adds one byte of an answer."""
    nodes = {(0, j): (np.ones(n_params, np.float32),) for j in range(_ADDED)}
    taken = []
    for _ in range(repeats + _WARM_UP):
        start = time.perf_counter()
        add_up(nodes, _ADDED)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken[_WARM_UP:])) / (_ADDED * 4 * n_params)


def fit_rounds(found: list[dict[str, float]], add_s_per_byte: float) -> dict[str, float]:
    """Fit the constants of a round to empty rounds: nonnegative least squares of relative errors."""
    seconds = np.array([row["seconds"] for row in found])
    columns = np.array([[1.0, r["workers"], r["workers"] * r["out"], r["workers"] * r["in"]] for r in found])
    target = np.maximum(seconds - add_s_per_byte * columns[:, 3], 0.0)
    scale = np.abs(columns).max(axis=0)
    solution, _ = nnls(columns / scale / seconds[:, None], target / seconds)
    names = ("round_s", "message_s", "send_s_per_byte", "receive_s_per_byte")
    fitted = dict(zip(names, (solution / scale).tolist(), strict=True))
    return fitted | {"add_s_per_byte": add_s_per_byte}
