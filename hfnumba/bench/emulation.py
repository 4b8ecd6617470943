"""Iterations to validate the model of scaling: on real workers, and on simulated ones that wait instead of computing.

Simulated workers wait as long as the model predicts that they compute; messages, sums and the wait for the last worker
are real. So there can be many more workers than processors.
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
from hfnumba.bench.remote import remote_workers
from hfnumba.bench.scaling import (
    STAR,
    NoRows,
    fit_rounds,
    measure_adding,
    measure_rates,
    measure_rounds,
    problem_of,
    relay_seconds,
    remote_engine,
)
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
_ROWS, _FITTED = 16_384, (1, 2, 4)
_NO_TIME = Rate(0.0, 0.0, 0.0)


class Stopwatch:
    """Engine that times the rounds of another engine, by parts of an iteration."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.reset()

    def reset(self) -> None:
        """Reset all timings."""
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.counts = dict.fromkeys(PARTS, 0)
        self.n_candidates = self.n_alphas = 0

    def run(self, request: Round) -> Sums:
        """Run a round on the wrapped engine."""
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
        """Close the wrapped engine."""
        self._engine.close()


def run_iterations(
    network: Network, source: RowSource, client: Client, curvature_rows: int, iterations: int = 2
) -> dict[str, Any]:
    """Run the real optimiser on the workers of a client; return seconds, rounds and counts of its last iteration."""
    problem = problem_of(network, source)
    stopwatch = Stopwatch(remote_engine(problem, client, STAR))
    objective = RoundObjective(problem, stopwatch, 0.0)
    optimizer = HessianFree(
        METHOD, curvature_rows=curvature_rows, preconditioner="none", line_rows=None, max_iterations=iterations
    )
    found: dict[str, Any] = {}
    elapsed_s, nbytes = 0.0, 0
    with objective:
        for line in optimizer.iterate(objective, network.initialize(0)):
            taken = line.elapsed_s - elapsed_s
            found = {
                "seconds": stopwatch.seconds | {"iteration": taken, "client": taken - sum(stopwatch.seconds.values())},
                "rounds": stopwatch.counts,
                "nbytes": line.nbytes - nbytes,
                "n_products": line.n_matvec,
                "n_candidates": stopwatch.n_candidates,
                "n_alphas": stopwatch.n_alphas,
            }
            elapsed_s, nbytes = line.elapsed_s, line.nbytes
            stopwatch.reset()
    return found


@dataclass(frozen=True)
class Wait(Evaluation):
    """Evaluation that sleeps for the modelled time of another one, and returns zeros of its shape."""

    evaluation: Evaluation
    rate: Rate
    points: int

    @property
    def rows(self) -> RowSample | None:
        """Sample of the rows."""
        return self.evaluation.rows

    def results(self, problem: Problem, vectors: Vectors) -> Mapping[str, Result]:
        """Results of the other evaluation."""
        return self.evaluation.results(problem, vectors)

    def prepare(self, host: PartitionHost) -> tuple[Result, ...]:
        """Wait for the modelled time per worker."""
        time.sleep(self.rate.seconds(0, 0, self.points))
        return tuple(self.results(host.problem, host.vectors).values())

    def __call__(self, host: PartitionHost, j: int, shared: tuple[Result, ...]) -> Sums:
        """Wait for the modelled time of the rows of partition j, and return zeros."""
        source = host.problem.source
        start, stop = source.partition_rows(j)
        rows = stop - start
        if self.rows is not None:
            rows = stop * self.rows.n_rows // source.n_rows - start * self.rows.n_rows // source.n_rows
        time.sleep(replace(self.rate, worker_s=0.0).seconds(rows, 1, self.points))
        return tuple(np.zeros(result.shape, result.dtype) for result in shared)


class WaitingEngine:
    """Engine that replaces evaluations by waiting."""

    def __init__(self, engine: Engine, constants: Constants, work: Workload) -> None:
        self._engine, self._constants, self._work, self._has_primal = engine, constants, work, False

    def run(self, request: Round) -> Sums:
        """Run a round on the wrapped engine, with its evaluations replaced."""
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
        """Close the wrapped engine."""
        self._engine.close()


def replay(problem: Problem, engine: Engine, work: Workload) -> RoundObjective:
    """Run the rounds of one iteration on an engine, in order; return the objective with its counters."""
    objective = RoundObjective(problem, engine, 0.0)
    sample = RowSample(work.curvature_rows)
    theta = problem.network.initialize(0)
    hessian = objective.linearize(theta, sample).hessian()
    for k in range(work.n_products):
        # A vector equal to one already sent would not be sent again.
        hessian.matvec(theta + np.float32(k + 1))
    lines = np.stack([theta + np.float32(-k - 1) for k in range(work.n_candidates)])
    objective.values_along(theta, lines, [1.0], rows=sample)
    objective.values_along(theta, lines[0] / 2, 2.0 ** -np.arange(work.n_alphas))
    return objective


def emulate(
    network: Network, client: Client, constants: Constants, work: Workload, fan_in: int = STAR
) -> dict[str, Any]:
    """Run one iteration on simulated workers; return its seconds by parts, and those of client and scheduler."""
    rows = NoRows(work.n_rows, work.n_partitions, network.n_features)
    problem = problem_of(network, rows)
    engine = remote_engine(problem, client, fan_in)
    # First without timing: connections are made, and the problem is sent.
    no_time = replace(
        constants, gradient=_NO_TIME, first_product=_NO_TIME, product=_NO_TIME, ranking=_NO_TIME, line=_NO_TIME
    )
    short = replace(work, n_products=1, n_candidates=1)
    replay(problem, WaitingEngine(engine, no_time, short), short)
    stopwatch = Stopwatch(WaitingEngine(engine, constants, work))
    scheduler, processor = client.run_on_scheduler(time.process_time), time.process_time()
    start = time.perf_counter()
    objective = replay(problem, stopwatch, work)
    elapsed = time.perf_counter() - start
    spent = {
        "client_processor_s": time.process_time() - processor,
        "scheduler_processor_s": float(client.run_on_scheduler(time.process_time) - scheduler),
    }
    engine.close()
    nbytes = objective.counters.nbytes
    return {
        "seconds": dict(stopwatch.seconds),
        "rounds": dict(stopwatch.counts),
        "elapsed_s": elapsed,
        "nbytes": nbytes,
        **spent,
    }


@dataclass(frozen=True)
class Comparison:
    """Time of one iteration by the model and on simulated workers, and the efficiency by the model.

    ``ratio`` is the time of the model divided by that of the run. The efficiency is the time of one worker divided by
    the total time of all workers.
    """

    workers: int
    modelled_s: float
    waited_s: float
    ratio: float
    efficiency: float
    transport_share: float

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)


def comparisons(
    workers: tuple[int, ...], rows: int, curvature_rows: int, repeats: int, fan_in: int | None = None
) -> Iterator[Comparison]:
    """Measure the constants with few workers, then compare model and run with more, for 360-512-512-512-1973.

    ``fan_in`` is that of the engine and the model; None for no relays.
    """
    network, rng = Network(NETWORKS["C"]), np.random.default_rng(0)
    X = rng.standard_normal((_ROWS, network.n_features), dtype=np.float32)
    source = ArraySource.of(X, rng.integers(0, network.n_outputs, _ROWS), None, 1.0, 0.0)
    counts = {"n_products": 11, "n_candidates": 6, "n_alphas": len(step_lengths("newton"))}
    rates = measure_rates(network, source, points=counts["n_candidates"], repeats=repeats)
    found, chain = [], []
    for p in _FITTED:
        with remote_workers(p, min(p, available_processors())) as client:
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
        with remote_workers(p, available_processors()) as client:
            waited = sum(emulate(network, client, constants, work, fan_in or STAR)["seconds"].values())
        model = iteration_s(constants, work, p, fan_in)["iteration"]
        share = transport_share(constants, work, p, fan_in)
        yield Comparison(p, model, waited, model / waited, alone / model / p, share)
