"""A run in progress: it is evaluated at the points that its method reports, until it is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hfnumba.bench.quality.data import Data
from hfnumba.bench.quality.meter import Meter
from hfnumba.bench.quality.problems import Problem
from hfnumba.bench.quality.records import Point, Run
from hfnumba.engine import ArrayObjective
from hfnumba.network import Network
from hfnumba.objective import Vector
from hfnumba.optim.iteration import finite_or_none

REACHED, OUT_OF_TIME, NOT_FINITE = "all targets are reached", "the time is over", "the loss is no longer finite"


class RunOver(Exception):  # noqa: N818 - not an error
    """Ends a run; its text is the reason."""


class Arena:
    """Rows, network and evaluations that all runs of a problem share.

    Every method is evaluated by the same code, in float32 on all threads.
    """

    def __init__(self, problem: Problem, data: Data) -> None:
        self.problem, self.data, self.network = problem, data, problem.network(data)
        self._train = ArrayObjective(self.network, data.X, data.y)
        self._test = ArrayObjective(self.network, data.X_test, data.y_test)

    @property
    def n_rows(self) -> int:
        """Number of training rows."""
        return len(self.data.X)

    def quality(self, theta: Vector, known: tuple[float, float] | None) -> tuple[float, float, float, float]:
        """Return loss and error over the training rows (those that are ``known``) and over the held-out rows."""
        trained = self._train.value_and_error(theta) if known is None else known
        return (*trained, *self._test.value_and_error(theta))

    def close(self) -> None:
        """Release the threads."""
        self._train.close()
        self._test.close()


@dataclass(frozen=True)
class Limits:
    """What ends a run.

    Attributes
    ----------
    targets : sequence of (str, float)
        Quantities and values; the run ends where it has reached each of them at some point.
    seconds : float
    """

    targets: Sequence[tuple[str, float]]
    seconds: float


class Course:
    """A run of a method on an arena: its clock, counters, starting point and settings.

    Parameters
    ----------
    arena : Arena
    run : Run
    limits : Limits
    record : callable
        Receives each point.
    """

    def __init__(self, arena: Arena, run: Run, limits: Limits, record: Callable[[Point], Any]) -> None:
        self.arena, self.run, self.limits, self.meter = arena, run, limits, Meter()
        self.theta: Vector = arena.network.initialize(run.seed)
        self._record = record
        self._left = set(limits.targets)

    @property
    def data(self) -> Data:
        """Rows."""
        return self.arena.data

    @property
    def network(self) -> Network:
        """Network."""
        return self.arena.network

    @property
    def l2(self) -> float:
        """Factor of the penalty."""
        return self.arena.problem.l2

    @property
    def interval_rows(self) -> int:
        """Number of rows of gradients between two evaluations."""
        return max(1, round(self.arena.problem.interval * self.arena.n_rows))

    def is_out_of_time(self) -> bool:
        """Whether the time of the run is over; asked between steps, it ends runs whose next point is far."""
        return self.meter.seconds() >= self.limits.seconds

    def report(self, theta: Vector, known: tuple[float, float] | None = None) -> None:
        """Evaluate theta, with clock and counters stopped, and start them again.

        Parameters
        ----------
        theta : ndarray, shape (n_params,)
        known : tuple of float, optional
            Loss, without a penalty, and error over the training rows, where the method has them.

        Raises
        ------
        RunOver
            If all targets are reached, the time is over, or the loss is not finite.
        """
        with self.meter.paused():
            cost = self.meter.cost()
            quality = [finite_or_none(number) for number in self.arena.quality(theta, known)]
            passes = cost.rows / self.arena.n_rows
            point = Point(cost.seconds, cost.rounds, passes, cost.operations / 1e9, *quality)
            self._record(point)
            self._left -= {(quantity, value) for quantity, value in self._left if point.reaches(quantity, value)}
        if point.loss is None:
            raise RunOver(NOT_FINITE)
        if self.limits.targets and not self._left:
            raise RunOver(REACHED)
        if cost.seconds >= self.limits.seconds:
            raise RunOver(OUT_OF_TIME)
        self.meter.start()
