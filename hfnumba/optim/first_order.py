"""Stochastic gradient methods, the baselines: many small rounds in place of few large ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from hfnumba.errors import NumericalError, UsageError
from hfnumba.objective import Objective, RowSample
from hfnumba.optim.checks import require_choice, require_common, require_integer, require_real
from hfnumba.optim.iteration import Iteration, Meter, OptimizerState, finite_or_none, record, starting_theta
from hfnumba.optim.limits import START_NOT_FINITE, is_over
from hfnumba.optim.updates import RECIPES, Memory, Pace, Recipe
from hfnumba.optim.vectors import Vector, all_finite, norm, step


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent and its kin, with a constant learning rate.

    One iteration is one epoch: n_rows // batch_rows steps along the gradient over a minibatch drawn without
    replacement, one round each, then one evaluation over all rows.

    Parameters
    ----------
    method : {"sgd", "momentum", "asgd", "mvasgd", "adam"}
        Plain steps, or with ``momentum`` > 0 those of the heavy ball; Nesterov's momentum; plain steps of which
        the average, or a moving average, is what is reported and what the state calls theta; Adam. See
        :mod:`hfnumba.optim.updates`.
    learning_rate : float, optional
        By default 0.1, of ``momentum`` 0.03, of ``adam`` 0.001.
    batch_rows : int, default 64
        Rows of a step in total, over all partitions (the paper's b times the number of nodes); all rows if
        there are fewer.
    momentum : float, optional
        From 0 to 0.9999. By default 0, of ``momentum`` and ``adam`` (its beta1) 0.9.
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
    Rounds per iteration: n_rows // batch_rows + 1. Memory: four n-vectors, two more for each vector that a method
    keeps: one with momentum, two of ``adam``, one with an average.
    """

    method: str = "sgd"
    learning_rate: float | None = None
    batch_rows: int = 64
    momentum: float | None = None
    seed: int = 0
    max_iterations: int | None = None
    target_error: float | None = None

    def __post_init__(self) -> None:
        require_choice("method", self.method, tuple(RECIPES))
        if self.learning_rate is not None:
            require_real("learning_rate", self.learning_rate, 1e-30, 1e30, "leave it out for a usual one")
        require_integer("batch_rows", self.batch_rows, 1, "64 is a usual choice")
        if self.momentum is not None:
            require_real("momentum", self.momentum, 0.0, 0.9999, "0.9 is a usual choice")
        require_common(self.seed, self.max_iterations, self.target_error)

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
        if state is not None and state.pairs is not None:
            raise UsageError(f"expected the state of {self.method}, got one of lbfgs; resume with its own method")
        return self._run(objective, starting_theta(objective, theta, state), test, state)

    def _run(
        self, objective: Objective, theta: Vector, test: Objective | None, state: OptimizerState | None
    ) -> Iterator[Iteration]:
        meter = Meter(objective)
        if state is None:
            loss, error = objective.value_and_error(theta)
            if not math.isfinite(loss):
                raise NumericalError(START_NOT_FINITE)
            state = _state(OptimizerState(theta, -1), theta, {}, error, meter)
            yield record(state, loss, error, objective, test)
            meter.go_on()
        else:
            state = replace(state, theta=theta)
            meter.resume(state)
        while not is_over(state, self.max_iterations, self.target_error):
            theta, memory, grad_norm = self._epoch(objective, state)
            loss, error = objective.value_and_error(theta)
            if not math.isfinite(loss):
                raise self._diverged("loss")
            state = _state(state, theta, memory, error, meter)
            yield record(state, loss, error, objective, test, grad_norm=grad_norm)
            meter.go_on()

    @property
    def _recipe(self) -> Recipe:
        return RECIPES[self.method]

    @property
    def _rate(self) -> float:
        return self._recipe.learning_rate if self.learning_rate is None else float(self.learning_rate)

    def _epoch(self, objective: Objective, state: OptimizerState) -> tuple[Vector, Memory, float]:
        """Take all steps of an epoch; return theta, what the method keeps, and the norm of the last gradient."""
        recipe, batch_rows = self._recipe, min(int(self.batch_rows), objective.n_rows)
        momentum = recipe.momentum if self.momentum is None else float(self.momentum)
        n_steps = objective.n_rows // batch_rows
        theta, memory = state.theta, _memory(state)
        point = memory.pop("iterate", theta)
        gradient = point
        for index in range(n_steps):
            sample = RowSample(n_rows=batch_rows, seed=int(self.seed), draw=state.iteration + 1, index=index)
            value, gradient = objective.value_and_gradient(point, sample)
            if not (math.isfinite(value) and all_finite(gradient)):
                raise self._diverged("loss or gradient of a minibatch")
            t = state.iteration * n_steps + index + 1
            point, memory = recipe.update(point, gradient, memory, Pace(self._rate, momentum, t))
            if not all(map(all_finite, (point, *memory.values()))):
                raise self._diverged("step")
            weight = recipe.weight(t, n_steps)
            theta = point if weight == 1 else step(theta * theta.dtype.type(1 - weight), weight, point)
        return theta, memory if recipe.average == "none" else memory | {"iterate": point}, norm(gradient)

    def _diverged(self, what: str) -> NumericalError:
        return NumericalError(
            f"expected a finite {what}, got NaN or infinity at a learning rate of {self._rate:g}; "
            f"choose a smaller one, such as {self._rate / 10:g}"
        )


def _memory(state: OptimizerState) -> Memory:
    kept = {"velocity": state.velocity, "second_moment": state.second_moment, "iterate": state.iterate}
    return {name: vector for name, vector in kept.items() if vector is not None}


def _state(before: OptimizerState, theta: Vector, memory: Memory, error: float, meter: Meter) -> OptimizerState:
    return replace(
        before,
        theta=theta,
        iteration=before.iteration + 1,
        velocity=memory.get("velocity"),
        second_moment=memory.get("second_moment"),
        iterate=memory.get("iterate"),
        error=finite_or_none(error),
        **meter.cost(),
    )
