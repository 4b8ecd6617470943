from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from hfnumba.errors import NumericalError, UsageError
from hfnumba.objective import RowSample
from hfnumba.optim.first_order import SGD
from hfnumba.optim.hessian_free import HessianFree
from hfnumba.optim.lbfgs import LBFGS
from hfnumba.optim.updates import MOVING, UPDATE_RULES
from tests.optim.toys import Hidden, Network, Quadratic


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_is_a_plain_loop(momentum):
    toy, plain = Network(), Network()
    sgd = SGD(learning_rate=0.05, batch_rows=20, momentum=momentum, seed=3, max_iterations=4)
    its = list(sgd.iterate(toy, toy.start()))
    theta, v = plain.start().astype(float), np.zeros(plain.n_params)
    for epoch in (1, 2, 3, 4):
        order = np.random.default_rng([3, epoch]).permutation(96)
        for k in range(4):
            v = momentum * v - 0.05 * plain.g(theta, order[20 * k : 20 * k + 20])
            theta = theta + v
        np.testing.assert_allclose(its[epoch].state.theta, theta, rtol=1e-4, atol=1e-6)
        assert its[epoch].loss == pytest.approx(plain.f(theta, np.arange(96)), rel=1e-5)
    assert its[-1].loss < its[0].loss


def minibatch_gradients(toy, epochs, seed=3):
    """The samples of SGD(batch_rows=20, seed=3) on 96 rows, an epoch after the other."""
    for epoch in range(1, epochs + 1):
        order = np.random.default_rng([seed, epoch]).permutation(96)
        for k in range(4):
            rows = order[20 * k : 20 * k + 20]
            yield lambda theta, rows=rows: toy.g(theta, rows)


@pytest.mark.parametrize(("method", "rate"), [("momentum", 0.05), ("adam", 0.01)])
def test_momentum_and_adam_are_scikit_learns(method, rate):
    optimizers = pytest.importorskip("sklearn.neural_network._stochastic_optimizers")
    toy = Network()
    theta = toy.start().astype(float)
    if method == "momentum":
        peer = optimizers.SGDOptimizer([theta], rate, momentum=0.9, nesterov=True)
    else:
        peer = optimizers.AdamOptimizer([theta], rate, beta_1=0.9, epsilon=1e-12)
    for gradient in minibatch_gradients(Network(), 5):
        peer.update_params([theta], [gradient(theta)])
    *_, it = SGD(method, learning_rate=rate, batch_rows=20, seed=3, max_iterations=5).iterate(toy, toy.start())
    np.testing.assert_allclose(it.state.theta, theta, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", ["asgd", "mvasgd"])
def test_averages_are_of_the_points_of_plain_steps(method):
    toy = Network()
    its = list(SGD(method, learning_rate=0.2, batch_rows=20, seed=3, max_iterations=4).iterate(toy, toy.start()))
    theta, points = toy.start().astype(float), []
    for gradient in minibatch_gradients(Network(), 4):
        theta = theta - 0.2 * gradient(theta)
        points.append(theta)
    for epoch in (1, 2, 4):
        done = points[: 4 * epoch]
        if method == "asgd":
            expected = done[-1] if epoch == 1 else np.mean(done[4:], axis=0)
        else:
            # So early the moving average is still the mean of all.
            expected = np.mean(done, axis=0)
        np.testing.assert_allclose(its[epoch].state.theta, expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(its[epoch].state.memory["iterate"], done[-1], rtol=1e-4, atol=1e-6)
        assert its[epoch].loss == pytest.approx(toy.f(expected, np.arange(96)), rel=1e-5)


def test_a_moving_average_forgets():
    rule = UPDATE_RULES["mvasgd"]
    assert [rule.weight(t, 10) for t in (1, 2, 50, 100, 10**6)] == [1, 1 / 2, 1 / 50, MOVING, MOVING]
    assert [UPDATE_RULES["asgd"].weight(t, 10) for t in (1, 10, 11, 12, 30)] == [1, 1, 1, 1 / 2, 1 / 20]


def test_an_average_settles_where_noise_keeps_plain_steps_moving():
    """Polyak and Juditsky 1992: near a minimum the average is closer than the points it is of."""
    start = Network().start()
    plain, averaged = (
        list(SGD(method, learning_rate=1.0, batch_rows=4, max_iterations=40).iterate(Network(n_rows=400), start))
        for method in ("sgd", "asgd")
    )
    assert max(it.loss for it in averaged[-10:]) < min(it.loss for it in plain[-10:])


@pytest.mark.parametrize("method", UPDATE_RULES)
def test_every_method_descends_at_its_default_pace(method):
    toy = Network()
    its = list(SGD(method, batch_rows=8, max_iterations=20).iterate(toy, toy.start()))
    assert its[-1].loss < 0.8 * its[0].loss
    assert [it.rounds for it in its] == [1 + 13 * i for i in range(21)]
    assert its[-1].rounds == toy.counters.rounds


def test_an_epoch_visits_every_row_of_its_batches_once():
    toy = Network()
    seen = []
    rows = toy.rows

    def spy(sample):
        chosen = rows(sample)
        if sample is not None:
            seen.append(chosen)
        return chosen

    toy.rows = spy
    list(SGD(batch_rows=24, max_iterations=1).iterate(toy, toy.start()))
    assert sorted(np.concatenate(seen)) == list(range(96))
    assert toy.spy.samples == [RowSample(24, seed=0, draw=1, index=k) for k in range(4)]


@pytest.mark.parametrize(("batch_rows", "steps"), [(96, 1), (1000, 1), (50, 1), (48, 2), (7, 13)])
def test_rounds_and_passes(batch_rows, steps):
    toy = Network()
    its = list(SGD(batch_rows=batch_rows, max_iterations=3).iterate(toy, toy.start()))
    assert [it.rounds for it in its] == [1 + i * (steps + 1) for i in range(4)]
    for before, it in pairwise(its):
        assert it.epoch - before.epoch == pytest.approx(1 + steps * min(batch_rows, 96) / 96)


def test_the_record_of_an_epoch():
    toy = Network()
    first, last = SGD(batch_rows=96, max_iterations=1).iterate(toy, toy.start())
    assert first.grad_norm is None
    assert last.grad_norm == pytest.approx(np.linalg.norm(toy.g(toy.start().astype(float), np.arange(96))))
    line = last.as_ledger_line()
    for name in ("damping", "rho", "alpha", "direction", "krylov_status", "lowest_rayleigh", "curvature"):
        assert line[name] is None


def test_divergence_is_an_error_with_a_remedy():
    toy = Quadratic(np.eye(2), [0, 0], 1.0)
    with pytest.raises(NumericalError, match="choose a smaller one"), np.errstate(over="ignore"):
        for it in SGD(learning_rate=1e9).iterate(toy, [1.0, 1.0]):
            assert np.isfinite(it.state.theta).all()
            assert np.isfinite(it.loss)
            assert it.iteration < 100


class Steep(Hidden):
    def g(self, t, rows):
        return np.full(2, -1e10)


def test_infinite_parameters_behind_a_finite_loss_are_an_error_too():
    toy = Steep()
    with pytest.raises(NumericalError, match=r"finite step.*choose a smaller one"):
        list(SGD(learning_rate=1e30, max_iterations=1).iterate(toy, [1.0, 1.0]))
    assert all(np.isfinite(theta).all() for theta in toy.spy.thetas)


def test_target_error_ends_it():
    toy = Network()
    its = list(SGD(learning_rate=0.5, batch_rows=16, target_error=0.2).iterate(toy, toy.start()))
    assert its[-1].error <= 0.2 < its[-2].error
    assert list(SGD(target_error=0.2).iterate(toy, state=its[-1].state)) == []


def test_states_of_the_two_families_do_not_mix():
    toy = Network()
    first = next(SGD().iterate(toy, toy.start())).state
    second = next(HessianFree().iterate(toy, toy.start())).state
    with pytest.raises(UsageError, match="resume with its own method"):
        HessianFree().iterate(toy, state=first)
    with pytest.raises(UsageError, match="resume with its own method"):
        SGD().iterate(toy, state=second)
    third = list(LBFGS(max_iterations=2).iterate(toy, toy.start()))[-1].state
    with pytest.raises(UsageError, match="state of SGD, got one with pairs"):
        SGD().iterate(toy, state=third)
    with pytest.raises(UsageError, match="state of lbfgs"):
        LBFGS().iterate(toy, state=second)
