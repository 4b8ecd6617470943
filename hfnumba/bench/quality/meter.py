"""Clock and counters of a run, and an objective whose rounds they count."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from numpy.typing import ArrayLike, NDArray

from hfnumba.bench.quality.operations import operations_of_part, operations_per_row, primal_operations
from hfnumba.engine import ArrayObjective
from hfnumba.engine.evaluations import EmpiricalFisherProduct, FisherDiagonal, Gradient, Product
from hfnumba.engine.protocol import Evaluation
from hfnumba.krylov.lapack import OPERATIONS
from hfnumba.network import Network
from hfnumba.objective import RowSample, Vector


class Cost(NamedTuple):
    """Cost of a run so far, without the evaluations of its record.

    Attributes
    ----------
    seconds : float
    rounds : int
        Exchanges with all workers that a cluster would need: one for each gradient over a minibatch, and so on.
    rows : int
        Rows read, one per row and evaluation, as in :class:`hfnumba.objective.Counters`.
    operations : int
        Floating-point operations of :mod:`hfnumba.bench.quality.operations`, and of the factorisations and triangular
        solves of the client.
    """

    seconds: float
    rounds: int
    rows: int
    operations: int


class Meter:
    """Clock and counters, which stand still until :meth:`start` and within :meth:`paused`."""

    def __init__(self) -> None:
        self._seconds, self._rounds, self._rows, self._operations = 0.0, 0, 0, 0
        self._since: float | None = None
        self._solved = 0

    def start(self) -> None:
        """Start the clock; nothing if it runs already."""
        if self._since is None:
            self._solved = OPERATIONS.total
            self._since = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop clock and counters for the time of a block."""
        running = self._since is not None
        self._stop()
        try:
            yield
        finally:
            if running:
                self.start()

    def _stop(self) -> None:
        if self._since is not None:
            self._seconds += time.perf_counter() - self._since
            self._operations += OPERATIONS.total - self._solved
            self._since = None

    def seconds(self) -> float:
        """Return the time so far."""
        return self._seconds + (0.0 if self._since is None else time.perf_counter() - self._since)

    def count(self, rows: int, operations: int, rounds: int = 1) -> None:
        """Count a round, unless the clock stands."""
        if self._since is not None:
            self._rounds += rounds
            self._rows += rows
            self._operations += operations

    def cost(self) -> Cost:
        """Return the cost so far."""
        with self.paused():
            return Cost(self._seconds, self._rounds, self._rows, self._operations)


class CountedObjective(ArrayObjective):
    """Objective over arrays whose rounds a meter counts.

    Evaluations of loss and error alone do not count: methods make them for the record of an iteration only. A primal
    pass counts once for each theta and sample, since workers store it.
    """

    def __init__(self, network: Network, X: ArrayLike, y: ArrayLike, meter: Meter, l2: float = 0.0) -> None:
        super().__init__(network, X, y, l2=l2)
        self._meter = meter
        self._stored: set[tuple[str, RowSample | None]] = set()

    def value_and_error(self, theta: Vector) -> tuple[float, float]:
        """Return f and the error rate, without counting them."""
        with self._meter.paused():
            return super().value_and_error(theta)

    def evaluate(self, *evaluations: Evaluation) -> list[Mapping[str, NDArray[Any]]]:
        """Evaluate a round and count it."""
        rows = operations = 0
        for evaluation in evaluations:
            n_rows = self.n_rows if evaluation.rows is None else evaluation.rows.n_rows
            n_first = n_rows if evaluation.rows is None else evaluation.rows.part or n_rows
            rows += n_rows
            operations += n_rows * self._per_row(evaluation)
            operations += n_first * operations_of_part(evaluation, self.network.sizes)
        results = super().evaluate(*evaluations)
        self._meter.count(rows, operations)
        return results

    def _per_row(self, evaluation: Evaluation) -> int:
        sizes = self.network.sizes
        operations: int = operations_per_row(evaluation, sizes, self.vectors.live)
        if isinstance(evaluation, Gradient) and evaluation.store_primal:
            self._stored.add((evaluation.theta, evaluation.rows))
        if isinstance(evaluation, Product | EmpiricalFisherProduct | FisherDiagonal):
            key = evaluation.theta, evaluation.rows
            operations += 0 if key in self._stored else primal_operations(sizes)
            self._stored.add(key)
        return operations
