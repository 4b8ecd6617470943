"""K-FAC: natural-gradient steps with Kronecker-factored curvature and momentum, one round a step.

Sources: Martens and Grosse, "Optimizing neural networks with Kronecker-factored approximate curvature" (ICML 2015);
Ba, Grosse and Martens, "Distributed second-order optimization using Kronecker-factored approximations" (ICLR 2017).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from hfnumba.errors import NumericalError
from hfnumba.krylov.kronecker import FactoredCurvature, kfac
from hfnumba.objective import Objective, RowSample, Trial
from hfnumba.optim.checks import require_common, require_integer, require_real
from hfnumba.optim.iteration import OptimizerState
from hfnumba.optim.limits import START_NOT_FINITE
from hfnumba.optim.loop import Evaluated, Optimizer
from hfnumba.optim.natural_step import (
    MAX_DAMPING,
    MIN_DAMPING,
    RATE,
    Numbers,
    averaged,
    averaged_factors,
    has_failed,
    judged,
    measured_scale,
    momentum_step,
    without_last,
)
from hfnumba.optim.trust import damping_of
from hfnumba.optim.vectors import Vector, norm, step

__all__ = ["KFAC"]

_PART_ROWS = 1024
_FEW_ROWS, _GROWING_STEPS = 1024, 8
_FACTOR_EVERY = 2
_RETREAT = 8.0
_REMEDY = "scale the features to about unit size, or give a larger damping"
_FACTOR = re.compile(r"((diag_)?[AG]|a)\d+")


class Point(NamedTuple):
    """What a step leaves for the next: the last iterate, kept on the workers, and the inverse of the damped factors."""

    retained: object = None
    inverse: FactoredCurvature | None = None


@dataclass(frozen=True)
class Move:
    """A step before f is evaluated where it leads.

    Attributes
    ----------
    state : OptimizerState
        The next state; its theta is the average of the iterates.
    point : Point
        What the next step uses again.
    fields : dict
        Fields of the record.
    """

    state: OptimizerState
    point: Point
    fields: dict[str, Any]


@dataclass(frozen=True)
class KFAC(Optimizer[Point, Move]):
    """Kronecker-factored natural gradient with momentum.

    A step is one round: the gradient on a minibatch, every second time (and after a step was taken back) the Kronecker
    factors A and G of each layer on the first 1,024 of its rows, and how good the last step was. With F the damped
    A ⊗ G of all layers, d = -F⁻¹g, and

        u := μ u + (0.3 / c) d,        theta := theta + μ u + (0.3 / c) d,

    which is Nesterov's momentum. c is a running geometric mean of d'Gd / d'Fd, the true curvature (on the same rows,
    at the next point) over that of the metric. u starts anew where it points uphill. A step whose predicted decrease
    -g'(theta change) is more than 0.15 of the first loss is scaled down. The damping follows Levenberg and Marquardt's
    rule, on the change of the loss over these rows from one iterate to the next; low ratios raise it to 0.03 at most.
    Where the loss is not finite, or rises by a tenth of the first loss, the step is taken back. f is evaluated at a
    running average of the iterates, which is the theta of the state.

    While gradients are large, few rows are enough: if a minibatch has n > 1024 rows, that of the k-th of the first 8
    steps, counted from 0, has 1024 (n / 1024)^(k/8).

    One iteration is an epoch, n_rows // batch_rows steps, or ``record_every`` steps.

    Parameters
    ----------
    batch_rows : int, default 6144
        Number of rows of a minibatch, over all partitions; all rows if there are fewer than two minibatches.
    damping : float, default 0.001
        Initial damping, from 1e-4 to 100.
    record_every : int, optional
        Number of steps of an iteration. Default: those of an epoch.
    seed : int
        Seed for minibatches and random deltas.
    max_iterations, target_error : optional
        Total number of iterations, and training error, at which the run ends.

    Raises
    ------
    UsageError
        If a setting is out of its range.

    Notes
    -----
    Rounds per iteration: its steps, and 1 for f over all rows. A step reads the rows of its minibatch. The first 1,024
    go through the network once more for the loss at the start of the last step; the rest uses the gradient's forward
    pass. On the client it factors matrices of order n_in + 1 and n_out for each layer.
    Memory on the client: about nine n-vectors; up to five times the packed factors between steps (their mean, and
    Cholesky factors and inverses of twice that size each), and eleven times while new ones take their place. Workers
    copy the rows of a minibatch, also where it has all rows.

    Departures from Martens and Grosse (2015): momentum and one scale c instead of their quadratic model in two
    directions, which costs another round; a bound on the predicted decrease; random deltas by signs, see
    :mod:`hfnumba.kernels.kronecker`; no factored Tikhonov search; minibatches that grow over 8 steps instead of 500; a
    weight of 0.6 for past factors instead of 0.95.

    The memory of the state has ``iterate`` and ``start``, the last two iterates, ``direction`` d, ``velocity`` u,
    ``numbers``, and the factors of each layer.
    """

    memory_names: ClassVar = frozenset({"iterate", "start", "direction", "velocity", "numbers"})

    batch_rows: int = 6144
    damping: float = 0.001
    record_every: int | None = None
    seed: int = 0
    max_iterations: int | None = None
    target_error: float | None = None

    def __post_init__(self) -> None:
        require_integer("batch_rows", self.batch_rows, 1, "6144 is a usual choice")
        require_real("damping", self.damping, MIN_DAMPING, MAX_DAMPING, "0.001 is a good start")
        if self.record_every is not None:
            require_integer("record_every", self.record_every, 1, "leave it out for one record an epoch")
        require_common(self.seed, self.max_iterations, self.target_error)

    def check_state(self, state: OptimizerState) -> None:
        """Raise a UsageError if the state is of another method."""
        super().check_state(replace(state, memory={k: v for k, v in state.memory.items() if not _FACTOR.fullmatch(k)}))
        damping_of(state)

    def start(self, objective: Objective, theta: Vector) -> tuple[Point, Evaluated]:
        """Evaluate f at the starting point. One round."""
        loss, error = objective.value_and_error(theta)
        if not math.isfinite(loss):
            raise NumericalError(START_NOT_FINITE)
        return Point(), Evaluated(OptimizerState(theta, damping=float(self.damping)), loss, error)

    def resume(self, objective: Objective, state: OptimizerState) -> Point:
        """Keep the start of the last step on the workers."""
        start = state.memory.get("start")
        return Point() if start is None else Point(objective.retain(start))

    def propose(self, objective: Objective, point: Point, state: OptimizerState) -> Move:
        """Make one step. One round."""
        numbers, iterate = _numbers(state), _iterate(state)
        rows = self._rows(objective.n_rows, int(numbers.step))
        retained = objective.retain(iterate)
        # Also after a step was taken back, since the factors may be the reason.
        computes_factors = int(numbers.step) % _FACTOR_EVERY == 0 or not numbers.factored_damping
        batch = objective.minibatch(
            iterate,
            rows,
            factor_seed=(int(self.seed), int(numbers.step)) if computes_factors else None,
            trial=_trial(state),
        )
        if has_failed(numbers, batch):
            return self._retreat(objective, state)
        rho, damping = judged(numbers, batch, damping_of(state))
        numbers, factors = averaged_factors(measured_scale(numbers, batch), _factors(state), batch.factors, damping)
        if numbers.step == 0:
            numbers = numbers._replace(first_loss=batch.value)
        inverse = point.inverse if batch.factors is None else None
        # A resumed run makes the inverse again, with the damping of the step that made it.
        inverse = inverse or kfac(numbers.factored_damping, None, **factors)
        made = momentum_step(batch.gradient, state.memory.get("velocity"), inverse, numbers)
        numbers = numbers._replace(step=numbers.step + 1, slope=made.slope, metric=made.metric)
        moved = step(iterate, 1.0, made.move)
        memory = {"iterate": moved, "start": iterate, "direction": made.direction, "velocity": made.velocity}
        following = replace(
            state,
            theta=averaged(state.theta, moved, numbers.step),
            damping=damping,
            memory=memory | {"numbers": np.array(numbers)} | factors,
        )
        fields = {
            "damping": damping,
            "rho": rho,
            "alpha": RATE / math.exp(numbers.log_scale),
            "grad_norm": norm(batch.gradient),
            "note": made.note,
        }
        return Move(following, Point(retained, inverse), fields)

    def evaluate(
        self, objective: Objective, proposal: Move, state: OptimizerState
    ) -> tuple[Point, Evaluated | OptimizerState]:
        """Evaluate f at the average of the iterates where an iteration ends. One round, or none."""
        following = proposal.state
        if int(_numbers(following).step) % self._n_steps(objective):
            return proposal.point, following
        loss, error = objective.value_and_error(following.theta)
        if not math.isfinite(loss):
            raise NumericalError(
                "expected a finite loss at the average of the iterates, got NaN or infinity; " + _REMEDY
            )
        following = replace(following, iteration=state.iteration + 1)
        return proposal.point, Evaluated(following, loss, error, proposal.fields)

    def _retreat(self, objective: Objective, state: OptimizerState) -> Move:
        """Go back to the start of the last step, without velocity and with more damping."""
        numbers, start = _numbers(state), state.memory.get("start")
        if start is None:
            raise NumericalError(
                "expected a finite loss and gradient on a minibatch, got NaN or infinity, with no step to take "
                "back; " + _REMEDY
            )
        damping = min(_RETREAT * damping_of(state), MAX_DAMPING)
        average = without_last(state.theta, _iterate(state), start, numbers.step)
        numbers = numbers._replace(step=numbers.step + 1, slope=0.0, metric=0.0, factored_damping=0.0)
        memory = {"iterate": start, "numbers": np.array(numbers)} | _factors(state)
        note = "a step was taken back: the loss rose far, or loss or gradient was not finite; damping is raised"
        theta = start if average is None else average
        following = replace(state, theta=theta, damping=damping, memory=memory)
        return Move(following, Point(), {"damping": damping, "note": note})

    def _n_steps(self, objective: Objective) -> int:
        """Number of steps of an iteration."""
        return int(self.record_every or self._steps_per_epoch(objective.n_rows))

    def _steps_per_epoch(self, n_rows: int) -> int:
        return max(1, n_rows // int(self.batch_rows))

    def _rows(self, n_rows: int, n_step: int) -> RowSample:
        """Return the minibatch of a step; its first part is that of factors, losses and curvature."""
        n_steps = self._steps_per_epoch(n_rows)
        epoch, index = divmod(n_step, n_steps)
        # A growing minibatch starts where or after the one before ends, so that they hardly overlap within an epoch.
        n_batch = _grown(n_rows if n_steps == 1 else int(self.batch_rows), n_step)
        return RowSample(n_batch, int(self.seed), epoch + 1, index, part=min(_PART_ROWS, n_batch))


def _grown(n_batch: int, n_step: int) -> int:
    """Return the number of rows of a step's minibatch, which grows to ``n_batch`` over the first steps."""
    share = min(1.0, n_step / _GROWING_STEPS)
    return n_batch if n_batch <= _FEW_ROWS else round(_FEW_ROWS * (n_batch / _FEW_ROWS) ** share)


def _numbers(state: OptimizerState) -> Numbers:
    numbers = state.memory.get("numbers")
    return Numbers() if numbers is None else Numbers(*numbers.tolist())


def _iterate(state: OptimizerState) -> Vector:
    return state.memory.get("iterate", state.theta)


def _factors(state: OptimizerState) -> dict[str, Vector]:
    return {name: vector for name, vector in state.memory.items() if _FACTOR.fullmatch(name)}


def _trial(state: OptimizerState) -> Trial | None:
    """Return the last step as the next round judges it; None if there is none."""
    start, direction = state.memory.get("start"), state.memory.get("direction")
    return None if start is None or direction is None else Trial(start, direction)
