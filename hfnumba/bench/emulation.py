"""Iterations to hold the model of scaling against: of real workers, and of workers that wait instead of computing.

Where workers wait as long as the model says they compute, messages, sums and waiting for the last are real, and only
the computing is not. So many more workers than processors can be tried.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from distributed import Client

from hfnumba.bench.kernels import NETWORKS
from hfnumba.bench.model import PARTS, Constants, Part, Rate, Workload, iteration_s, transport_share
from hfnumba.bench.scaling import (
    STAR,
    NoRows,
    distant_engine,
    fit_rounds,
    measure_adding,
    measure_rates,
    measure_rounds,
    problem_of,
    relay_seconds,
)
from hfnumba.bench.workers import distant_workers
from hfnumba.engine import RoundObjective
from hfnumba.engine.evaluations import Gradient, LineLosses
from hfnumba.engine.host import PartitionHost
from hfnumba.engine.protocol import Engine, Evaluation, Problem, Result, Round, Vectors
from hfnumba.engine.rows import ArraySource, RowSource
from hfnumba.engine.tree import Sums
from hfnumba.network import Network
from hfnumba.objective import RowSample
from hfnumba.optim.hessian_free import HessianFree
from hfnumba.optim.line_search import step_lengths
from hfnumba.processors import available_processors

METHOD = "hf-bicgstab"
_HELD_ROWS, _FITTED = 16_384, (1, 2, 4)
_NO_TIME = Rate(0.0, 0.0, 0.0)


class Stopwatch:
    """An engine that notes how long each round of another one takes, by parts of an iteration."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.restart()

    def restart(self) -> None:
        """Forget."""
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.counts = dict.fromkeys(PARTS, 0)
        self.n_candidates = self.n_alphas = 0

    def run(self, request: Round) -> Sums:
        """Pass a round on."""
        start = time.perf_counter()
        sums = self._engine.run(request)
        part = self._part(request, request.evaluations[0])
        self.seconds[part] += time.perf_counter() - start
        self.counts[part] += 1
        return sums

    def _part(self, request: Round, evaluation: Evaluation) -> Part:
        if isinstance(evaluation, Gradient):
            return "gradient"
        if isinstance(evaluation, LineLosses) and evaluation.rows is None:
            self.n_alphas = len(evaluation.alphas)
            return "line_search"
        if isinstance(evaluation, LineLosses):
            self.n_candidates = request.vectors[evaluation.directions].size // request.vectors[evaluation.theta].size
        return "krylov"

    def close(self) -> None:
        """Close the other."""
        self._engine.close()


def run_iterations(
    network: Network, source: RowSource, client: Client, curvature_rows: int, iterations: int = 2
) -> dict[str, Any]:
    """The last of a few iterations of the real optimiser on the workers of a client: seconds, rounds, bytes, counts."""
    problem = problem_of(network, source)
    watch = Stopwatch(distant_engine(problem, client, STAR))
    objective = RoundObjective(problem, watch, 0.0)
    optimizer = HessianFree(METHOD, curvature_rows=curvature_rows, max_iterations=iterations)
    found: dict[str, Any] = {}
    elapsed_s, nbytes = 0.0, 0
    with objective:
        for line in optimizer.iterate(objective, network.initialize(0)):
            taken = line.elapsed_s - elapsed_s
            found = {
                "seconds": watch.seconds | {"iteration": taken, "client": taken - sum(watch.seconds.values())},
                "rounds": watch.counts,
                "nbytes": line.nbytes - nbytes,
                "n_products": line.n_matvec,
                "n_candidates": watch.n_candidates,
                "n_alphas": watch.n_alphas,
            }
            elapsed_s, nbytes = line.elapsed_s, line.nbytes
            watch.restart()
    return found


@dataclass(frozen=True)
class Wait(Evaluation):
    """An evaluation that sleeps as long as another one is modelled to compute, and answers in its shape."""

    evaluation: Evaluation
    rate: Rate
    points: int

    @property
    def rows(self) -> RowSample | None:
        """Its sample."""
        return self.evaluation.rows

    def results(self, problem: Problem, vectors: Vectors) -> Mapping[str, Result]:
        """Its results."""
        return self.evaluation.results(problem, vectors)

    def prepare(self, host: PartitionHost) -> tuple[Result, ...]:
        """What a worker computes once a round."""
        time.sleep(self.rate.seconds(0, 0, self.points))
        return tuple(self.results(host.problem, host.vectors).values())

    def __call__(self, host: PartitionHost, j: int, shared: tuple[Result, ...]) -> Sums:
        """Zeros, after the time for partition j's rows."""
        source = host.problem.source
        start, stop = source.partition_rows(j)
        rows = stop - start
        if self.rows is not None:
            rows = stop * self.rows.n_rows // source.n_rows - start * self.rows.n_rows // source.n_rows
        time.sleep(replace(self.rate, worker_s=0.0).seconds(rows, 1, self.points))
        return tuple(np.zeros(result.shape, result.dtype) for result in shared)


class WaitingEngine:
    """An engine whose evaluations wait."""

    def __init__(self, engine: Engine, constants: Constants, work: Workload) -> None:
        self._engine, self._constants, self._work, self._has_primal = engine, constants, work, False

    def run(self, request: Round) -> Sums:
        """Pass a round on, with its evaluations replaced."""
        waits = tuple(self._wait(evaluation) for evaluation in request.evaluations)
        return self._engine.run(replace(request, evaluations=waits))

    def _wait(self, evaluation: Evaluation) -> Wait:
        if isinstance(evaluation, Gradient):
            self._has_primal = False
            return Wait(evaluation, self._constants.gradient, 1)
        if isinstance(evaluation, LineLosses):
            if evaluation.rows is None:
                return Wait(evaluation, self._constants.line, self._work.n_alphas)
            return Wait(evaluation, self._constants.ranking, self._work.n_candidates)
        first, self._has_primal = not self._has_primal, True
        return Wait(evaluation, self._constants.first_product if first else self._constants.product, 1)

    def close(self) -> None:
        """Close the other."""
        self._engine.close()


def replay(problem: Problem, engine: Engine, work: Workload) -> RoundObjective:
    """Ask an engine for the rounds of one iteration, in their order; return the objective with its counters."""
    objective = RoundObjective(problem, engine, 0.0)
    sample = RowSample(work.curvature_rows)
    theta = problem.network.initialize(0)
    hessian = objective.linearize(theta, sample).hessian()
    for k in range(work.n_products):
        # A vector that is equal to one on its way would not be sent again.
        hessian.matvec(theta + np.float32(k + 1))
    lines = np.stack([theta + np.float32(-k - 1) for k in range(work.n_candidates)])
    objective.values_along(theta, lines, [1.0], rows=sample)
    objective.values_along(theta, lines[0] / 2, 2.0 ** -np.arange(work.n_alphas))
    return objective


def emulate(
    network: Network, client: Client, constants: Constants, work: Workload, fan_in: int = STAR
) -> dict[str, Any]:
    """One iteration's rounds on workers that wait: seconds by parts, and processor seconds of client and scheduler."""
    rows = NoRows(work.n_rows, work.n_partitions, network.n_features)
    problem = problem_of(network, rows)
    engine = distant_engine(problem, client, fan_in)
    # Connections are made, and the problem is sent, before anything counts.
    no_time = replace(
        constants, gradient=_NO_TIME, first_product=_NO_TIME, product=_NO_TIME, ranking=_NO_TIME, line=_NO_TIME
    )
    short = replace(work, n_products=1, n_candidates=1)
    replay(problem, WaitingEngine(engine, no_time, short), short)
    watch = Stopwatch(WaitingEngine(engine, constants, work))
    scheduler, processor = client.run_on_scheduler(time.process_time), time.process_time()
    start = time.perf_counter()
    objective = replay(problem, watch, work)
    elapsed = time.perf_counter() - start
    spent = {
        "client_processor_s": time.process_time() - processor,
        "scheduler_processor_s": float(client.run_on_scheduler(time.process_time) - scheduler),
    }
    engine.close()
    nbytes = objective.counters.nbytes
    return {
        "seconds": dict(watch.seconds),
        "rounds": dict(watch.counts),
        "elapsed_s": elapsed,
        "nbytes": nbytes,
        **spent,
    }


@dataclass(frozen=True)
class Comparison:
    """One iteration on so many workers: by the model, on workers that wait, and the model's efficiency.

    ``ratio`` is the model's time over the other; efficiency is the time of one worker over that of all together.
    """

    workers: int
    modelled_s: float
    waited_s: float
    ratio: float
    efficiency: float
    transport_share: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def comparisons(
    workers: tuple[int, ...], rows: int, curvature_rows: int, repeats: int, fan_in: int | None = None
) -> Iterator[Comparison]:
    """Measure the constants with few workers, then compare with more of them, on 360-512-512-512-1973.

    ``fan_in`` is the engine's and the model's; None for the star.
    """
    network, rng = Network(NETWORKS["C"]), np.random.default_rng(0)
    held = _HELD_ROWS
    X = rng.standard_normal((held, network.n_features), dtype=np.float32)
    source = ArraySource.of(X, rng.integers(0, network.n_outputs, held), None, 1.0, 0.0)
    counts = {"n_products": 11, "n_candidates": 6, "n_alphas": len(step_lengths("newton"))}
    rates = measure_rates(network, source, points=counts["n_candidates"], repeats=repeats)
    found, chain = [], []
    for p in _FITTED:
        with distant_workers(p, min(p, available_processors())) as client:
            found += measure_rounds(client, p, network.n_params, repeats)
            if p > 1:
                chain += measure_rounds(client, p, network.n_params, repeats, fan_in=1)
    rounds = fit_rounds(found, measure_adding(network.n_params, repeats))
    rest: dict[str, Any] = {**rates, **rounds, "client_s": 0.0, "scheduler_share": 0.0}
    rest["relay_s"] = relay_seconds(found, chain)
    constants = Constants(**rest)
    for p in workers:
        work = Workload(network.n_params, rows, curvature_rows, **counts, n_partitions=max(16, p))
        alone = iteration_s(constants, replace(work, n_partitions=16), 1)["iteration"]
        with distant_workers(p, available_processors()) as client:
            waited = sum(emulate(network, client, constants, work, fan_in or STAR)["seconds"].values())
        model = iteration_s(constants, work, p, fan_in)["iteration"]
        share = transport_share(constants, work, p, fan_in)
        yield Comparison(p, model, waited, model / waited, alone / model / p, share)
