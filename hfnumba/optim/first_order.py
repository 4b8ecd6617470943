"""Stochastic gradient descent, the baseline: many small rounds in place of few large ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from hfnumba.errors import NumericalError, UsageError
from hfnumba.objective import Objective, RowSample
from hfnumba.optim.iteration import Iteration, Meter, OptimizerState, finite_or_none, record, starting_theta
from hfnumba.optim.settings import require_integer, require_limits, require_real
from hfnumba.optim.vectors import Vector, all_finite, norm, step

_START_NOT_FINITE = (
    "expected a finite loss at the starting point, got NaN or infinity; "
    "scale the features to about unit size or start from smaller weights"
)


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with a constant learning rate and optional (heavy-ball) momentum.

    One iteration is one epoch: n_rows // batch_rows steps v := momentum·v - learning_rate·g, theta := theta
    + v, with g over a minibatch drawn without replacement, then one evaluation over all rows.

    Parameters
    ----------
    learning_rate : float, default 0.1
    batch_rows : int, default 64
        Rows of a step in total, over all partitions (the paper's b times the number of nodes); all rows if
        there are fewer.
    momentum : float, default 0
    seed : int
        Of the minibatches; a pure function of it, the epoch and the step.
    max_iterations, target_error : optional
        End after so many epochs in total, or once the training error is at most this share.

    Raises
    ------
    UsageError
        If a setting is out of its range.

    Notes
    -----
    Rounds per iteration: n_rows // batch_rows + 1. Memory: three n-vectors, four with momentum.
    """

    learning_rate: float = 0.1
    batch_rows: int = 64
    momentum: float = 0.0
    seed: int = 0
    max_iterations: int | None = None
    target_error: float | None = None

    def __post_init__(self) -> None:
        require_real("learning_rate", self.learning_rate, 1e-30, 1e30, "0.1 is a usual start")
        require_integer("batch_rows", self.batch_rows, 1, "64 is a usual choice")
        require_real("momentum", self.momentum, 0.0, 1.0, "0.9 is a usual choice")
        require_integer("seed", self.seed, 0, "any will do")
        require_limits(self.max_iterations, self.target_error)

    def iterate(
        self,
        objective: Objective,
        theta: Vector | None = None,
        *,
        test: Objective | None = None,
        state: OptimizerState | None = None,
    ) -> Iterator[Iteration]:
        """Yield iteration 0, then every epoch as it is done; parameters as of ``HessianFree.iterate``.

        ``grad_norm`` is that of the epoch's last minibatch: the gradient over all rows would cost a pass
        nobody needs.

        Raises
        ------
        UsageError
            If theta does not fit the objective, or the state is of a second-order method.
        NumericalError
            If the loss, the gradient or a step is not finite; the last yielded state still is.
        """
        if state is not None and state.damping is not None:
            raise UsageError(
                "expected the state of a first-order method, got one with damping; resume with its own method"
            )
        return self._run(objective, starting_theta(objective, theta, state), test, state)

    def _run(
        self, objective: Objective, theta: Vector, test: Objective | None, state: OptimizerState | None
    ) -> Iterator[Iteration]:
        meter = Meter(objective)
        if state is None:
            loss, error = objective.value_and_error(theta)
            if not math.isfinite(loss):
                raise NumericalError(_START_NOT_FINITE)
            state = _state(OptimizerState(theta, -1), theta, None, error, meter)
            yield record(state, loss, error, objective, test)
            meter.go_on()
        else:
            state = replace(state, theta=theta)
            meter.resume(state)
        while not self._is_over(state):
            theta, velocity, grad_norm = self._epoch(objective, state)
            loss, error = objective.value_and_error(theta)
            if not math.isfinite(loss):
                raise self._diverged("loss")
            state = _state(state, theta, velocity, error, meter)
            yield record(state, loss, error, objective, test, grad_norm=grad_norm)
            meter.go_on()

    def _is_over(self, state: OptimizerState) -> bool:
        enough = self.max_iterations is not None and state.iteration >= self.max_iterations
        return enough or (
            self.target_error is not None and state.error is not None and state.error <= self.target_error
        )

    def _epoch(self, objective: Objective, state: OptimizerState) -> tuple[Vector, Vector | None, float]:
        """Take all steps of an epoch; return theta, velocity (or None) and the norm of the last gradient."""
        batch_rows = min(int(self.batch_rows), objective.n_rows)
        theta, velocity, gradient = state.theta, state.velocity, state.theta
        for index in range(objective.n_rows // batch_rows):
            sample = RowSample(n_rows=batch_rows, seed=int(self.seed), draw=state.iteration + 1, index=index)
            value, gradient = objective.value_and_gradient(theta, sample)
            if not (math.isfinite(value) and all_finite(gradient)):
                raise self._diverged("loss or gradient of a minibatch")
            if self.momentum:
                velocity = np.zeros_like(theta) if velocity is None else velocity * np.float32(self.momentum)
                velocity = step(velocity, -self.learning_rate, gradient)
                theta = step(theta, 1.0, velocity)
            else:
                theta = step(theta, -self.learning_rate, gradient)
            if not all_finite(theta):
                raise self._diverged("step")
        return theta, velocity, norm(gradient)

    def _diverged(self, what: str) -> NumericalError:
        return NumericalError(
            f"expected a finite {what}, got NaN or infinity at a learning rate of {self.learning_rate:g}; "
            f"choose a smaller one, such as {self.learning_rate / 10:g}"
        )


def _state(
    before: OptimizerState, theta: Vector, velocity: Vector | None, error: float, meter: Meter
) -> OptimizerState:
    return replace(
        before,
        theta=theta,
        iteration=before.iteration + 1,
        velocity=velocity,
        error=finite_or_none(error),
        **meter.cost(),
    )
