from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from optim_toys import Hidden, Network, Quadratic

from hfnumba.errors import NumericalError, UsageError
from hfnumba.objective import RowSample
from hfnumba.optim.first_order import SGD
from hfnumba.optim.hessian_free import HessianFree


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


def test_each_setting_matters():
    def trace(**settings):
        toy = Network()
        return [it.loss for it in SGD(max_iterations=3, **settings).iterate(toy, toy.start())]

    base = trace(batch_rows=16)
    for change in ({"learning_rate": 0.2}, {"momentum": 0.5}, {"seed": 1}, {"batch_rows": 17}):
        assert trace(**({"batch_rows": 16} | change)) != base


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
