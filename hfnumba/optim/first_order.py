"""Stochastic gradient methods, the baselines: many small rounds in place of few large ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from hfnumba.errors import NumericalError, UsageError
from hfnumba.objective import Objective, RowSample
from hfnumba.optim.checks import require_choice, require_common, require_integer, require_real
from hfnumba.optim.iteration import OptimizerState
from hfnumba.optim.limits import START_NOT_FINITE
from hfnumba.optim.loop import Evaluated, Optimizer
from hfnumba.optim.updates import UPDATE_RULES, Memory, StepParameters, UpdateRule
from hfnumba.optim.vectors import Vector, all_finite, norm, step


@dataclass(frozen=True)
class Epoch:
    """Result of the steps of one epoch, before f is evaluated.

    Attributes
    ----------
    theta : ndarray, shape (n_params,)
        Point to report: that of the last step, or an average.
    memory : dict of str to ndarray
    grad_norm : float
        Norm of the gradient over the last minibatch.
    """

    theta: Vector
    memory: Memory
    grad_norm: float


@dataclass(frozen=True)
class SGD(Optimizer[None, Epoch]):
    """Stochastic gradient descent and related methods, with a constant learning rate.

    One iteration is one epoch: n_rows // batch_rows steps along the gradient over a minibatch drawn without
    replacement, one round each, then one evaluation over all rows. The ``grad_norm`` of an iteration is that of the
    epoch's last minibatch: the gradient over all rows would cost another pass.

    Parameters
    ----------
    method : {"sgd", "momentum", "asgd", "mvasgd", "adam"}
        Plain steps, or with ``momentum`` > 0 those of the heavy ball; Nesterov's momentum; plain steps of which
        the average, or a moving average, is reported and is the theta of the state; Adam. See
        :mod:`hfnumba.optim.updates`.
    learning_rate : float, optional
        Default 0.1; 0.03 for ``momentum``, 0.001 for ``adam``.
    batch_rows : int, default 64
        Number of rows of a minibatch, over all partitions (the paper's b times the number of nodes); all rows if
        there are fewer.
    momentum : float, optional
        Momentum from 0 to 0.9999; beta1 of ``adam``. Default 0; 0.9 for ``momentum`` and ``adam``.
    seed : int
        Seed for the minibatches, which depend only on seed, epoch and step.
    max_iterations, target_error : int, float, optional
        Total number of epochs, and training error, at which the run ends.

    Raises
    ------
    UsageError
        If a setting is out of its range.

    Notes
    -----
    Rounds per iteration: n_rows // batch_rows + 1. Memory: four n-vectors, two more for each vector in the memory of
    the state: ``velocity`` with momentum and for ``adam``, ``second_moment`` for ``adam``, and ``iterate``, the point
    of the last step, where theta is an average. A loss, gradient or step that is not finite is an error.
    """

    memory_names: ClassVar = frozenset({"velocity", "second_moment", "iterate"})

    method: str = "sgd"
    learning_rate: float | None = None
    batch_rows: int = 64
    momentum: float | None = None
    seed: int = 0
    max_iterations: int | None = None
    target_error: float | None = None

    def __post_init__(self) -> None:
        require_choice("method", self.method, tuple(UPDATE_RULES))
        if self.learning_rate is not None:
            require_real("learning_rate", self.learning_rate, 1e-30, 1e30, "leave it out for a usual one")
        require_integer("batch_rows", self.batch_rows, 1, "64 is a usual choice")
        if self.momentum is not None:
            require_real("momentum", self.momentum, 0.0, 0.9999, "0.9 is a usual choice")
        require_common(self.seed, self.max_iterations, self.target_error)

    def check_state(self, state: OptimizerState) -> None:
        """Raise a UsageError if the state is of another method."""
        if state.damping is not None:
            raise UsageError(
                "expected the state of a first-order method, got one with damping; resume with its own method"
            )
        super().check_state(state)

    def start(self, objective: Objective, theta: Vector) -> tuple[None, Evaluated]:
        """Evaluate f at the starting point. One round."""
        loss, error = objective.value_and_error(theta)
        if not math.isfinite(loss):
            raise NumericalError(START_NOT_FINITE)
        return None, Evaluated(OptimizerState(theta), loss, error)

    def resume(self, objective: Objective, state: OptimizerState) -> None:
        """Do nothing: an epoch needs the state only."""

    def propose(self, objective: Objective, point: None, state: OptimizerState) -> Epoch:
        """Take all steps of an epoch, one round each."""
        rule, batch_rows = self._rule, min(int(self.batch_rows), objective.n_rows)
        momentum = rule.momentum if self.momentum is None else float(self.momentum)
        n_steps = objective.n_rows // batch_rows
        theta, memory = state.theta, dict(state.memory)
        iterate = memory.pop("iterate", theta)
        gradient = iterate
        for index in range(n_steps):
            sample = RowSample(n_rows=batch_rows, seed=int(self.seed), draw=state.iteration + 1, index=index)
            value, gradient = objective.value_and_gradient(iterate, sample)
            if not (math.isfinite(value) and all_finite(gradient)):
                raise self._diverged("loss or gradient of a minibatch")
            t = state.iteration * n_steps + index + 1
            iterate, memory = rule.update(iterate, gradient, memory, StepParameters(self._rate, momentum, t))
            if not all(map(all_finite, (iterate, *memory.values()))):
                raise self._diverged("step")
            weight = rule.weight(t, n_steps)
            theta = iterate if weight == 1 else step(theta * theta.dtype.type(1 - weight), weight, iterate)
        return Epoch(theta, memory if rule.average == "none" else memory | {"iterate": iterate}, norm(gradient))

    def evaluate(self, objective: Objective, proposal: Epoch, state: OptimizerState) -> tuple[None, Evaluated]:
        """Evaluate f after an epoch. One round."""
        loss, error = objective.value_and_error(proposal.theta)
        if not math.isfinite(loss):
            raise self._diverged("loss")
        state = replace(state, theta=proposal.theta, iteration=state.iteration + 1, memory=proposal.memory)
        return None, Evaluated(state, loss, error, {"grad_norm": proposal.grad_norm})

    @property
    def _rule(self) -> UpdateRule:
        return UPDATE_RULES[self.method]

    @property
    def _rate(self) -> float:
        return self._rule.learning_rate if self.learning_rate is None else float(self.learning_rate)

    def _diverged(self, what: str) -> NumericalError:
        return NumericalError(
            f"expected a finite {what}, got NaN or infinity at a learning rate of {self._rate:g}; "
            f"choose a smaller one, such as {self._rate / 10:g}"
        )
