"""Records of iterations, and states to resume from with the same bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hfnumba.errors import CheckpointError
from hfnumba.html import table
from hfnumba.optim.limits import StopReason
from hfnumba.optim.vectors import Vector

__all__ = ["Iteration", "OptimizerState"]


@dataclass(frozen=True, eq=False)
class OptimizerState:
    """Everything the next iteration depends on, apart from the objective and the optimiser's own settings.

    Attributes
    ----------
    theta : ndarray, shape (n_params,)
        Flat vector of parameters.
    iteration : int
        Number of iterations done; the next one draws its rows by this number plus one.
    memory : mapping of str to ndarray
        Vectors of the method besides theta, by name; see each method. Never changed in place.
    damping : float or None
        Damping of the next solve; None for a method without one.
    radius : float or None
        Trust radius of the next solve; None for a method without one.
    rounds, nbytes, row_reads : int
        Cost of the run so far.
    elapsed_s : float
        Seconds spent inside the optimiser so far.
    error : float or None
        Error rate over the training rows at theta.
    gauss_newton_next : bool
        Hybrid: the last solve met non-positive curvature, so the next one uses the Gauss–Newton matrix.
    n_rejected : int
        Number of consecutive iterations without an acceptable step.
    probe_next : bool
        The loss is flat as far as the gradient shows, so the next solve looks for negative curvature only.
    stopped : StopReason or None
        Reason why the method stopped by itself, if it did. A stopped state yields nothing more.
    """

    theta: Vector
    iteration: int = 0
    memory: Mapping[str, Vector] = field(default_factory=dict)
    damping: float | None = None
    radius: float | None = None
    rounds: int = 0
    nbytes: int = 0
    row_reads: int = 0
    elapsed_s: float = 0.0
    error: float | None = None
    gauss_newton_next: bool = False
    n_rejected: int = 0
    probe_next: bool = False
    stopped: StopReason | None = None

    def tensors(self) -> dict[str, NDArray[np.floating[Any]]]:
        """Return theta and the vectors of the method by name. Not copied."""
        return {"theta": self.theta, **self.memory}

    def scalars(self) -> dict[str, Any]:
        """Return everything else, JSON-safe; floats survive JSON exactly, as Python writes their repr."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("theta", "memory")}
        return values | {"stopped": "" if self.stopped is None else self.stopped.value}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[np.floating[Any]]], scalars: Mapping[str, Any]) -> Self:
        """Return the state whose ``tensors()`` and ``scalars()`` these are.

        Raises
        ------
        CheckpointError
            If ``theta`` or a scalar is missing, unknown, or not a value that a method writes.
        """
        expected = {f.name for f in fields(cls)} - {"theta", "memory"}
        wrong = expected ^ set(scalars) | {"theta"} - set(tensors)
        if wrong:
            raise CheckpointError(
                f"expected an optimiser state of theta and {sorted(expected)}, but {sorted(wrong)} is "
                "missing or unknown; "
                "resume with the version of hfnumba that wrote this checkpoint"
            )
        for name, value in scalars.items():
            if not _is_possible(name, value):
                raise CheckpointError(
                    f"the checkpoint has {name} = {value!r}, which no method writes; delete its two files to continue "
                    "from the one before it"
                )
        vectors = {name: np.array(vector) for name, vector in tensors.items()}
        theta, stopped = vectors.pop("theta"), _stop_reason(scalars["stopped"])
        return cls(**{**scalars, "theta": theta, "memory": vectors, "stopped": stopped})


_COUNTS = ("iteration", "rounds", "nbytes", "row_reads", "n_rejected")
_FLAGS = ("gauss_newton_next", "probe_next")


def _is_possible(name: str, value: Any) -> bool:
    """Whether a scalar is a count, a truth value, a text, or a number that is finite and not negative."""
    if name == "stopped":
        return isinstance(value, str)
    if name in _FLAGS:
        return isinstance(value, bool)
    kinds = int if name in _COUNTS else (int, float)
    optional = name in ("damping", "radius", "error")
    number = isinstance(value, kinds) and not isinstance(value, bool) and 0 <= value < math.inf
    return number or (optional and value is None)


def _stop_reason(sentence: str) -> StopReason | None:
    """Return the reason of a sentence in a checkpoint, None of an empty one."""
    try:
        return StopReason(sentence) if sentence else None
    except ValueError:
        raise CheckpointError(
            f"the checkpoint has an unknown reason to stop, {sentence!r}; "
            "resume with the version of hfnumba that wrote this checkpoint"
        ) from None


@dataclass(frozen=True, kw_only=True, eq=False)
class Iteration:
    """One iteration: a line of the ledger, and the state after it.

    Attributes
    ----------
    iteration : int
        Number of the iteration; 0 is the state before the first step.
    epoch : float
        Effective passes over the data: rows read / rows.
    loss, error : float
        f (with its penalty) and the error rate over all training rows, after this iteration.
    test_loss, test_error : float or None
        Loss and error rate of the test objective; None without one.
    validation_loss, validation_error : float or None
        Loss and error rate of the validation objective; None without one.
    grad_norm : float or None
        ‖g‖ over all rows after this iteration. Stochastic methods: ‖g‖ of the epoch's last minibatch, None at 0.
    damping : float or None
        Damping of this iteration's solve (at iteration 0: the initial one); for ``hf-lanczos`` the one whose
        multiples compete; 0 with a trust region.
    radius : float or None
        Trust radius of this iteration's solve, likewise; None without one.
    rho : float or None
        Reduction ratio of the best Krylov candidate; None where the model predicts no decrease.
    alpha : float or None
        Accepted step length; 0 if the step was rejected.
    direction : str or None
        "newton", "negative_curvature" or "gradient"; None at iteration 0, for stochastic methods,
        and where there was no direction to try.
    krylov_status : str or None
        Name of the :class:`~hfnumba.krylov.result.KrylovStatus`.
    n_matvec : int
        Number of products in this iteration.
    rounds, nbytes : int
        Cumulative numbers of exchanges and bytes since iteration 0 began, without those of test and validation.
    elapsed_s : float
        Seconds inside the optimiser, including those before an interruption; test, validation and the time between
        two yields do not count.
    n_negative_curvature : int
        Number of Rayleigh quotients of the undamped matrix below zero (beyond rounding) that the solve met.
    lowest_rayleigh : float or None
        Lowest Rayleigh quotient of the undamped matrix that the solve met.
    curvature : float or None
        d'Bd, undamped, of the direction d taken.
    note : str
        Reason why a step was rejected, an iterate flipped, or the optimiser stopped; with the remedy.
    state : OptimizerState
        State from which the next iteration follows. Not part of the ledger.
    """

    iteration: int
    epoch: float
    loss: float
    error: float
    test_loss: float | None
    test_error: float | None
    validation_loss: float | None = None
    validation_error: float | None = None
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

    def __repr__(self) -> str:
        test = "" if self.test_error is None else f", test error {self.test_error:.4g}"
        return f"Iteration({self.iteration}, loss {self.loss:.4g}, error {self.error:.4g}{test}, {self.rounds} rounds)"

    def _repr_html_(self) -> str:
        known = {name: value for name, value in self.as_ledger_line().items() if value not in (None, "")}
        texts = [(name, f"{value:.5g}" if isinstance(value, float) else str(value)) for name, value in known.items()]
        return table("Iteration", texts)

    def as_ledger_line(self) -> dict[str, Any]:
        """Return the fields but ``state`` as JSON-safe values; numbers that are not finite become None."""
        return {
            f.name: finite_or_none(value) if isinstance(value := getattr(self, f.name), float) else value
            for f in fields(self)
            if f.name != "state"
        }


def finite_or_none(number: float) -> float | None:
    """Return the number as JSON can hold it."""
    return float(number) if math.isfinite(number) else None
