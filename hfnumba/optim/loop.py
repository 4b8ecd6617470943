"""The outer loop, the same for every method: starting, resuming, limits, costs, and one record per iteration."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from hfnumba.errors import NumericalError, UsageError
from hfnumba.objective import Counters, Objective
from hfnumba.optim.iteration import Iteration, OptimizerState, finite_or_none
from hfnumba.optim.limits import limit_reached
from hfnumba.optim.vectors import Vector, all_finite
from hfnumba.progress import with_bar

__all__ = ["Evaluated", "Optimizer"]


@dataclass(frozen=True)
class Evaluated:
    """A new state, and f at its theta.

    Attributes
    ----------
    state : OptimizerState
        The loop sets its costs and its error.
    loss, error : float
        f and the error rate over all rows at ``state.theta``.
    fields : mapping
        Fields of :class:`~hfnumba.optim.iteration.Iteration` that not every method has.
    """

    state: OptimizerState
    loss: float
    error: float
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class HeldOut:
    """Objectives over rows that are not trained on, evaluated for the record of each iteration.

    Attributes
    ----------
    test, validation : Objective or None
    """

    test: Objective | None = None
    validation: Objective | None = None

    def fields(self, theta: Vector) -> dict[str, Any]:
        """Return loss and error rate of each by the names of the fields; a round for each there is."""
        found: dict[str, Any] = {}
        for name, objective in (("test", self.test), ("validation", self.validation)):
            pair = (None, None) if objective is None else objective.value_and_error(theta)
            found[f"{name}_loss"], found[f"{name}_error"] = pair
        return found


class Optimizer[Point, Proposal](ABC):
    """A method of optimisation: a frozen dataclass of settings, and the functions that the outer loop calls.

    A ``Point`` is what a method has computed at theta and needs for its next step, e.g. a linearisation; None if it
    needs nothing. A ``Proposal`` is where a method wants to go. Everything that outlives an iteration besides the point
    is in the :class:`~hfnumba.optim.iteration.OptimizerState`, from which a run resumes with the same bits. A step is
    made in two calls so that the loop can release the old point before the new one is evaluated: workers retain the
    primal pass of a linearisation while it is referenced.

    Attributes
    ----------
    memory_names : frozenset of str
        Names of the vectors that the method has in the memory of its states.
    max_iterations : int or None
        Total number of iterations, those before an interruption included.
    target_error : float or None
        Training error at which the run ends.
    """

    memory_names: ClassVar[frozenset[str]] = frozenset()
    max_iterations: int | None
    target_error: float | None

    def iterate(
        self,
        objective: Objective,
        theta: Vector | None = None,
        *,
        test: Objective | None = None,
        validation: Objective | None = None,
        state: OptimizerState | None = None,
        stop: Callable[[], bool] | None = None,
        progress: bool = False,
    ) -> Generator[Iteration, None, OptimizerState | None]:
        """Yield iteration 0 (the state before the first step), then every iteration as it is done.

        A plain generator: it may be abandoned at any time, and a later call continues from any ``iteration.state``
        with the same bits. It ends at a limit, or where the method stops by itself; then the last ``note`` is the
        reason.

        Parameters
        ----------
        objective : Objective
            The function to minimise.
        theta : ndarray, shape (n_params,), optional
            Starting point; copied as float32. Ignored if ``state`` is given.
        test : Objective, optional
            Objective over test rows, evaluated once per iteration for the record; its rounds and time do not count.
        validation : Objective, optional
            Objective over validation rows, evaluated likewise; see :mod:`hfnumba.optim.early_stopping`.
        state : OptimizerState, optional
            State to continue from, which is not yielded again. Settings must be those of the run that it is from.
        stop : callable, optional
            Called between the steps of an iteration that has several of them; True ends the generator there.
        progress : bool
            Whether to show a progress bar, in a notebook or on stderr.

        Returns
        -------
        OptimizerState or None
            What the generator returns at its end: the state at which ``stop`` ended it, from which a later call
            continues with the same bits.

        Raises
        ------
        UsageError
            If theta does not fit the objective, or the state is of another method.
        NumericalError
            If the loss or the gradient is not finite at the starting point, or later where the method cannot go back.
        """
        if state is not None:
            self.check_state(state)
        theta = starting_theta(objective, theta, state)
        held_out = HeldOut(test, validation)
        iterations = _iterations(self, objective, theta, held_out=held_out, state=state, stop=stop)
        return with_bar(iterations, self.max_iterations, _described) if progress else iterations

    def check_state(self, state: OptimizerState) -> None:
        """Raise a UsageError if the state is of another method."""
        unknown = state.memory.keys() - self.memory_names
        if unknown:
            raise UsageError(
                f"expected a state of {type(self).__name__}, got one with {', '.join(sorted(unknown))}; "
                "resume with its own method"
            )

    @abstractmethod
    def start(self, objective: Objective, theta: Vector) -> tuple[Point, Evaluated]:
        """Evaluate f at the starting point; return it with the state of iteration 0."""

    @abstractmethod
    def resume(self, objective: Objective, state: OptimizerState) -> Point:
        """Compute the point of a state again; its cost has already been counted."""

    @abstractmethod
    def propose(self, objective: Objective, point: Point, state: OptimizerState) -> Proposal:
        """Compute where to go from a point. The result must not refer to what the point retains on workers."""

    @abstractmethod
    def evaluate(
        self, objective: Objective, proposal: Proposal, state: OptimizerState
    ) -> tuple[Point, Evaluated | OptimizerState]:
        """Evaluate f where a proposal leads, accept or reject it, and return the next point and state.

        A method whose iterations have several steps returns the bare state after each but the last of them.
        """


def _described(iteration: Iteration) -> tuple[int, str]:
    return iteration.iteration, f"loss {iteration.loss:.4g}, error {iteration.error:.4g}"


def _iterations[Point, Proposal](
    method: Optimizer[Point, Proposal],
    objective: Objective,
    theta: Vector,
    *,
    held_out: HeldOut,
    state: OptimizerState | None,
    stop: Callable[[], bool] | None,
) -> Generator[Iteration, None, OptimizerState | None]:
    if state is not None and _is_over(method, state):
        return None
    meter = Meter(objective)
    if state is None:
        point, evaluated = method.start(objective, theta)
        state = _with_cost(evaluated, meter)
        yield _record(state, evaluated, objective, held_out)
        meter.restart_clock()
    else:
        state = replace(state, theta=theta)
        point = method.resume(objective, state)
        meter.resume(state)
    while not _is_over(method, state):
        proposal = method.propose(objective, point, state)
        # Workers retain a primal pass while anything refers to the old point: release it before the next is made.
        del point
        point, result = method.evaluate(objective, proposal, state)
        del proposal
        if isinstance(result, OptimizerState):
            state = result
            if stop is not None and stop():
                return replace(state, **meter.cost())
            continue
        state, evaluated = _with_cost(result, meter), result
        yield _record(state, evaluated, objective, held_out)
        meter.restart_clock()
    return None


def _is_over(method: Optimizer[Any, Any], state: OptimizerState) -> bool:
    limit = limit_reached(state.iteration, state.error, method.max_iterations, method.target_error)
    return (limit or state.stopped) is not None


def _with_cost(evaluated: Evaluated, meter: Meter) -> OptimizerState:
    return replace(evaluated.state, error=finite_or_none(evaluated.error), **meter.cost())


class Meter:
    """Cost of a run since its iteration 0, over any number of interruptions.

    The objective's counters are read, never set: an objective may have served other runs before.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._base = self._read()
        self._earlier_s = 0.0
        self._since = time.perf_counter()

    def _read(self) -> Counters:
        counters = self._objective.counters
        return Counters(counters.rounds, counters.nbytes, counters.row_reads)

    def resume(self, state: OptimizerState) -> None:
        """Continue the count of a state; what was spent to compute its point again had been counted already."""
        now = self._read()
        self._base = Counters(now.rounds - state.rounds, now.nbytes - state.nbytes, now.row_reads - state.row_reads)
        self._earlier_s = state.elapsed_s

    def restart_clock(self) -> None:
        """Start the clock again; it stopped with the last :meth:`cost`."""
        self._since = time.perf_counter()

    def cost(self) -> dict[str, Any]:
        """Stop the clock; return the cost fields of an :class:`~hfnumba.optim.iteration.OptimizerState`."""
        now, base = self._read(), self._base
        self._earlier_s += time.perf_counter() - self._since
        return {
            "rounds": int(now.rounds - base.rounds),
            "nbytes": int(now.nbytes - base.nbytes),
            "row_reads": int(now.row_reads - base.row_reads),
            "elapsed_s": self._earlier_s,
        }


def starting_theta(objective: Objective, theta: Vector | None, state: OptimizerState | None) -> Vector:
    """Return a float32 copy of the starting point: the state's theta if there is one.

    Raises
    ------
    UsageError
        If neither is given or the length is not ``objective.n_params``.
    NumericalError
        If a parameter is not finite (a bounded activation would hide it from the loss).
    """
    source = state.theta if state is not None else theta
    if source is None:
        raise UsageError("expected theta to start from or a state to resume from, got neither; pass one of them")
    with np.errstate(over="ignore"):
        vector = np.array(source, dtype=np.float32, order="C")
    if vector.shape != (objective.n_params,):
        raise UsageError(
            f"expected theta of shape ({objective.n_params},) for this objective, got {vector.shape}; "
            "use the network the parameters belong to"
        )
    if not all_finite(vector):
        raise NumericalError("expected finite parameters to start from, got NaN or infinity; initialise them anew")
    return vector


def _record(state: OptimizerState, evaluated: Evaluated, objective: Objective, held_out: HeldOut) -> Iteration:
    """Return the record of a state; test and validation cost a round each, which the state does not count."""
    return Iteration(
        iteration=state.iteration,
        epoch=state.row_reads / objective.n_rows,
        loss=float(evaluated.loss),
        error=float(evaluated.error),
        **held_out.fields(state.theta),
        rounds=state.rounds,
        nbytes=state.nbytes,
        elapsed_s=state.elapsed_s,
        state=state,
        **evaluated.fields,
    )
