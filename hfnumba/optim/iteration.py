"""What an optimiser yields: a record of each iteration, and the state to resume from with the same bits."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import CheckpointError, NumericalError, UsageError
from hfnumba.objective import Counters, Objective
from hfnumba.optim.vectors import Vector, all_finite

_TENSORS = ("theta", "warm_start", "velocity", "second_moment", "iterate", "pairs")


@dataclass(frozen=True, eq=False)
class OptimizerState:
    """Everything the next iteration depends on, apart from the objective and the optimiser's own settings.

    Attributes
    ----------
    theta : ndarray, shape (n_params,)
    iteration : int
        Iterations done; the next one draws its rows by this number plus one.
    damping : float or None
        Damping of the next solve; None for a first-order method.
    radius : float or None
        Trust radius of the next solve, of a method that has one.
    warm_start : ndarray or None
        The last step taken, from which the next solve starts, before its decay.
    velocity : ndarray or None
        Momentum of a first-order method.
    second_moment : ndarray or None
        Running mean of squared gradients (Adam).
    iterate : ndarray or None
        Where the next step starts, of a method whose theta is an average of such points.
    pairs : ndarray, shape (2, n_pairs, n_params), or None
        L-BFGS: steps, and the changes of the gradient along them, oldest first.
    rounds, nbytes, row_reads : int
        Cost of the run so far.
    elapsed_s : float
        Seconds spent inside the optimiser so far.
    error : float or None
        Error rate over the training rows at theta.
    gauss_newton_next : bool
        Hybrid: the last solve met non-positive curvature, so the next one uses the Gauss-Newton matrix.
    n_rejected : int
        Iterations in a row that found no acceptable step.
    probe_next : bool
        The loss is flat as far as the gradient tells, so the next solve looks for negative curvature only.
    stopped : str
        Why the optimiser ended by itself; empty while it goes on. A stopped state yields nothing more.
    """

    theta: Vector
    iteration: int = 0
    damping: float | None = None
    radius: float | None = None
    warm_start: Vector | None = None
    velocity: Vector | None = None
    second_moment: Vector | None = None
    iterate: Vector | None = None
    pairs: Vector | None = None
    rounds: int = 0
    nbytes: int = 0
    row_reads: int = 0
    elapsed_s: float = 0.0
    error: float | None = None
    gauss_newton_next: bool = False
    n_rejected: int = 0
    probe_next: bool = False
    stopped: str = ""

    def tensors(self) -> dict[str, NDArray[np.floating[Any]]]:
        """Return the vectors by name: ``theta`` always, the others where there are any. Not copied."""
        return {name: vector for name in _TENSORS if (vector := getattr(self, name)) is not None}

    def scalars(self) -> dict[str, Any]:
        """Return everything else, JSON-safe; floats survive JSON exactly, as Python writes their repr."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _TENSORS}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[np.floating[Any]]], scalars: Mapping[str, Any]) -> Self:
        """Return the state whose ``tensors()`` and ``scalars()`` these are.

        Raises
        ------
        CheckpointError
            If ``theta`` or a scalar is missing, or one is unknown.
        """
        expected = {f.name for f in fields(cls)} - set(_TENSORS)
        wrong = expected ^ set(scalars) | set(tensors) - set(_TENSORS) | {"theta"} - set(tensors)
        if wrong:
            raise CheckpointError(
                f"expected an optimiser state of theta and {sorted(expected)}, but {sorted(wrong)} is "
                "missing or unknown; "
                "resume with the version of hfnumba that wrote this checkpoint"
            )
        vectors: dict[str, Any] = {name: np.array(vector) for name, vector in tensors.items()}
        return cls(**vectors, **scalars)


@dataclass(frozen=True, kw_only=True, eq=False)
class Iteration:
    """A line of the ledger, and the state after it.

    Attributes
    ----------
    iteration : int
        0 is the state before the first step.
    epoch : float
        Effective passes over the data: rows read / rows.
    loss, error : float
        f (with its penalty) and the error rate over all training rows, after this iteration.
    test_loss, test_error : float or None
        The same of the test objective; None without one.
    grad_norm : float or None
        ‖g‖ over all rows after this iteration. First-order methods: of the epoch's last minibatch, None at 0.
    damping : float or None
        The damping this iteration solved with (at iteration 0: the initial one); of ``hf-lanczos`` the one that
        its candidates are multiples of; 0 with a trust region.
    radius : float or None
        The trust radius this iteration solved with, likewise; None without one.
    rho : float or None
        Reduction ratio of the best Krylov candidate; None where the model predicts no decrease.
    alpha : float or None
        Accepted step length; 0 if the step was rejected.
    direction : str or None
        "newton", "negative_curvature" or "gradient"; None at iteration 0, for first-order methods,
        and where there was no direction to try.
    krylov_status : str or None
        Name of the :class:`~hfnumba.krylov.result.KrylovStatus`.
    n_matvec : int
        Products of this iteration.
    rounds, nbytes : int
        Exchanges and bytes since iteration 0 began (both cumulative); a test objective has its own.
    elapsed_s : float
        Seconds inside the optimiser, before an interruption included; the test objective and the time between
        two yields do not count.
    n_negative_curvature : int
        Rayleigh quotients below zero (beyond rounding) that the solve met, of the undamped operator.
    lowest_rayleigh : float or None
        The lowest of them all, undamped.
    curvature : float or None
        d'Bd, undamped, of the direction d taken.
    note : str
        Why a step was rejected, an iterate flipped, or the optimiser stopped; with the remedy.
    state : OptimizerState
        From which the next iteration follows. Not part of the ledger.
    """

    iteration: int
    epoch: float
    loss: float
    error: float
    test_loss: float | None
    test_error: float | None
    grad_norm: float | None = None
    damping: float | None = None
    radius: float | None = None
    rho: float | None = None
    alpha: float | None = None
    direction: str | None = None
    krylov_status: str | None = None
    n_matvec: int = 0
    rounds: int
    nbytes: int
    elapsed_s: float
    n_negative_curvature: int = 0
    lowest_rayleigh: float | None = None
    curvature: float | None = None
    note: str = ""
    state: OptimizerState = field(repr=False)

    def as_ledger_line(self) -> dict[str, Any]:
        """Return the fields but ``state`` as JSON-safe values; numbers that are not finite become None."""
        return {
            f.name: finite_or_none(value) if isinstance(value := getattr(self, f.name), float) else value
            for f in fields(self)
            if f.name != "state"
        }


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
        """Count on from a state; what was spent to rebuild its linearization had been counted already."""
        now = self._read()
        self._base = Counters(now.rounds - state.rounds, now.nbytes - state.nbytes, now.row_reads - state.row_reads)
        self._earlier_s = state.elapsed_s

    def go_on(self) -> None:
        """Start the clock again; it stopped with the last :meth:`cost`."""
        self._since = time.perf_counter()

    def cost(self) -> dict[str, Any]:
        """Stop the clock; the cost fields of an :class:`OptimizerState`."""
        now, base = self._read(), self._base
        self._earlier_s += time.perf_counter() - self._since
        return {
            "rounds": int(now.rounds - base.rounds),
            "nbytes": int(now.nbytes - base.nbytes),
            "row_reads": int(now.row_reads - base.row_reads),
            "elapsed_s": self._earlier_s,
        }


def starting_theta(objective: Objective, theta: Vector | None, state: OptimizerState | None) -> Vector:
    """Return a float32 copy of the point to start from: the state's theta if there is one.

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


def record(
    state: OptimizerState,
    loss: float,
    error: float,
    objective: Objective,
    test: Objective | None,
    **rest: Any,
) -> Iteration:
    """Return the record of a state; ``rest`` are the fields that not every method has.

    The test objective costs one round of its own, which the state does not count.
    """
    test_loss, test_error = (None, None) if test is None else test.value_and_error(state.theta)
    return Iteration(
        iteration=state.iteration,
        epoch=state.row_reads / objective.n_rows,
        loss=float(loss),
        error=float(error),
        test_loss=test_loss,
        test_error=test_error,
        rounds=state.rounds,
        nbytes=state.nbytes,
        elapsed_s=state.elapsed_s,
        state=state,
        **rest,
    )


def finite_or_none(number: float) -> float | None:
    """Return the number as JSON can hold it."""
    return float(number) if math.isfinite(number) else None
