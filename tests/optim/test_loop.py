"""The outer loop with two methods that the package does not have."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest

from hfnumba.errors import UsageError
from hfnumba.objective import Linearization, RowSample
from hfnumba.optim import methods
from hfnumba.optim.direction import steepest_descent
from hfnumba.optim.iteration import OptimizerState
from hfnumba.optim.limits import StopReason, require_finite
from hfnumba.optim.line_search import NO_STEP, LineSearchResult, search
from hfnumba.optim.loop import Evaluated, Optimizer
from tests.optim.toys import Network, Quadratic


@dataclass(frozen=True)
class GradientDescent(Optimizer[Linearization, LineSearchResult]):
    """Steepest descent with a line search: a step is one round, evaluating it another."""

    max_iterations: int | None = None
    target_error: float | None = None

    def start(self, objective, theta):
        lin = require_finite(objective.linearize(theta, 1))
        return lin, Evaluated(OptimizerState(theta), lin.value, lin.error)

    def resume(self, objective, state):
        return objective.linearize(state.theta, 1)

    def propose(self, objective, point, state):
        candidate = steepest_descent(point.gradient, point.value, 0.0)
        return NO_STEP if candidate is None else search(objective, point.theta, point.value, candidate)

    def evaluate(self, objective, proposal, state):
        state = replace(state, iteration=state.iteration + 1)
        if proposal.theta is None:
            state = replace(state, stopped=StopReason.NO_DESCENT)
        else:
            state = replace(state, theta=proposal.theta)
        lin = objective.linearize(state.theta, 1)
        return lin, Evaluated(state, lin.value, lin.error, {"alpha": proposal.alpha})


@dataclass(frozen=True)
class Scaled(Optimizer[None, dict]):
    """Heavy ball on minibatches, preconditioned by a running diagonal: no linearisation, several steps per record."""

    memory_names: ClassVar = frozenset({"velocity", "scale"})

    batch_rows: int = 16
    steps: int = 3
    max_iterations: int | None = None
    target_error: float | None = None

    def start(self, objective, theta):
        return None, Evaluated(OptimizerState(theta), *objective.value_and_error(theta))

    def resume(self, objective, state):
        return None

    def propose(self, objective, point, state):
        theta, zero = state.theta, np.zeros_like(state.theta)
        velocity, scale = state.memory.get("velocity", zero), state.memory.get("scale", zero)
        for index in range(self.steps):
            rows = RowSample(self.batch_rows, draw=state.iteration + 1, index=index)
            _, gradient = objective.value_and_gradient(theta, rows)
            scale = np.float32(0.9) * scale + np.float32(0.1) * gradient**2
            velocity = np.float32(0.9) * velocity - np.float32(0.01) * gradient / (np.sqrt(scale) + np.float32(0.1))
            theta = theta + velocity
        return {"theta": theta, "memory": {"velocity": velocity, "scale": scale}}

    def evaluate(self, objective, proposal, state):
        state = replace(state, iteration=state.iteration + 1, **proposal)
        return None, Evaluated(state, *objective.value_and_error(state.theta))


@pytest.fixture(params=["gd", "scaled"])
def method(request, monkeypatch):
    """The name of a new method, for which the registry has a row."""
    rows = {"gd": GradientDescent, "scaled": Scaled}
    monkeypatch.setitem(methods.METHODS, request.param, methods.Method(rows[request.param], "a method of this test"))
    return request.param


def test_a_class_and_a_row_are_a_method(method):
    assert "max_iterations" in methods.settings_of(method)
    toy, test, validation = Network(), Network(n_rows=30), Network(n_rows=20)
    made = methods.optimizer(method, max_iterations=8)
    its = list(made.iterate(toy, toy.start(), test=test, validation=validation))
    assert [it.iteration for it in its] == list(range(9))
    assert its[-1].loss < its[0].loss
    assert its[-1].rounds == toy.counters.rounds
    assert its[-1].epoch == toy.counters.row_reads / toy.n_rows
    assert test.counters.rounds == validation.counters.rounds == 9
    for it in its:
        assert it.loss == toy.f(it.state.theta.astype(float), toy.rows(None))
        assert (it.test_loss, it.test_error) == test.value_and_error(it.state.theta)
        assert (it.validation_loss, it.validation_error) == validation.value_and_error(it.state.theta)
    with pytest.raises(UsageError, match=f"settings of {method}.*got damping"):
        methods.optimizer(method, damping=1.0)


def test_a_new_method_resumes_with_the_same_bits(method):
    optimiser = methods.optimizer(method, max_iterations=5)
    whole = list(optimiser.iterate(Network(), Network().start()))
    for stop in range(6):
        scalars = json.loads(json.dumps(whole[stop].state.scalars()))
        state = OptimizerState.restore(whole[stop].state.tensors(), scalars)
        more = list(optimiser.iterate(Network(), state=state))
        assert [it.rounds for it in more] == [it.rounds for it in whole[stop + 1 :]]
        for it, expected in zip(more, whole[stop + 1 :], strict=True):
            np.testing.assert_array_equal(it.state.theta, expected.state.theta)


def test_the_old_point_is_released_before_the_next_is_made():
    toy = Network()
    list(GradientDescent(max_iterations=4).iterate(toy, toy.start()))
    assert toy.spy.calls.count("linearize") == 5
    assert toy.spy.most_alive == 1


def test_limits_are_those_of_the_loop(method):
    toy = Network()
    its = list(methods.optimizer(method, target_error=0.3, max_iterations=200).iterate(toy, toy.start()))
    assert its[-1].error <= 0.3 < min(it.error for it in its[:-1])
    again = Network()
    assert list(methods.optimizer(method, target_error=0.3).iterate(again, state=its[-1].state)) == []
    assert again.counters.rounds == 0


def test_a_method_ends_by_itself_and_a_stopped_state_yields_nothing():
    toy = Quadratic(np.eye(2), [0, 0], 1.0)
    its = list(GradientDescent().iterate(toy, [1.0, 2.0]))
    assert [it.state.stopped for it in its[:-1]] == [None] * (len(its) - 1)
    assert its[-1].state.stopped is StopReason.NO_DESCENT
    for before, it in pairwise(its[:-1]):
        assert it.loss < before.loss
    rounds = toy.counters.rounds
    assert list(GradientDescent().iterate(toy, state=its[-1].state)) == []
    assert toy.counters.rounds == rounds


def test_the_memory_of_another_method_is_refused_by_name():
    toy = Network()
    *_, last = Scaled(max_iterations=1).iterate(toy, toy.start())
    assert last.state.memory.keys() == Scaled.memory_names
    with pytest.raises(UsageError, match=r"state of GradientDescent, got one with scale, velocity; resume with"):
        GradientDescent().iterate(toy, state=last.state)
