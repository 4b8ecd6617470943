from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba.errors import NumericalError
from hfnumba.optim.lbfgs import LBFGS, _quasi_newton
from tests.optim.toys import Network, Quadratic, Rosenbrock, Saddle


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_the_direction_is_that_of_scipys_inverse_hessian(seed, k):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((8, 8))
    s = rng.standard_normal((k, 8))
    y = s @ (A @ A.T + np.eye(8))
    # SciPy starts from the identity; here it is scaled by the last pair, which this makes 1.
    y[-1] *= (s[-1] @ y[-1]) / (y[-1] @ y[-1])
    g = rng.standard_normal(8)
    expected = -scipy.optimize.LbfgsInvHessProduct(s, y).matvec(g)
    found = _quasi_newton(g, np.stack([s, y]))
    np.testing.assert_allclose(found.d, expected, rtol=1e-9)
    assert found.slope == pytest.approx(g @ expected)


def test_the_scale_is_that_of_the_last_pair():
    g, s = np.array([0.0, 1.0]), np.array([[1.0, 0.0]])
    assert _quasi_newton(g, np.stack([s, 4 * s])).d == pytest.approx([0, -1 / 4])


def test_rosenbrock_is_minimised_in_as_few_gradients_as_scipy():
    toy = Rosenbrock()
    its = list(LBFGS(max_iterations=60).iterate(toy, [-1.2, 1.0]))
    np.testing.assert_allclose(its[-1].state.theta, [1, 1], atol=2e-3)
    assert "training is complete" in its[-1].note
    peer = scipy.optimize.minimize(
        lambda t: toy.f(t, None), [-1.2, 1.0], jac=lambda t: toy.g(t, None), method="L-BFGS-B"
    )
    assert its[-1].rounds <= 2 * peer.nfev


def test_a_quadratic_is_solved():
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    A, b = Q @ np.diag([1, 2, 3, 4, 5, 6.0]) @ Q.T, rng.standard_normal(6)
    *_, last = LBFGS().iterate(Quadratic(A, b, 1.0), np.zeros(6))
    np.testing.assert_allclose(last.state.theta, np.linalg.solve(A, b), atol=1e-3)


@pytest.mark.parametrize("make", [Network, Rosenbrock, Saddle])
def test_the_loss_never_rises_and_an_iteration_is_two_rounds(make):
    toy = make()
    start = toy.start() if make is Network else [0.9, 0.3]
    its = list(LBFGS(max_iterations=25).iterate(toy, start))
    assert toy.spy.calls[: 2 * 3 + 1] == ["linearize"] + ["along", "linearize"] * 3
    for before, it in pairwise(its):
        assert it.rounds - before.rounds == (2 if it.alpha else 1)
        assert it.loss < before.loss if it.alpha else it.loss == before.loss
        assert it.loss == toy.f(it.state.theta.astype(float), toy.rows(None))
        g = toy.g(it.state.theta.astype(float), toy.rows(None))
        assert it.grad_norm == pytest.approx(np.linalg.norm(g), rel=1e-5, abs=1e-7)
        assert it.n_matvec == 0
    assert its[-1].rounds == toy.counters.rounds


def test_no_primal_pass_on_all_rows_is_asked_for():
    toy = Network()
    list(LBFGS(max_iterations=2).iterate(toy, toy.start()))
    assert {sample.n_rows for sample in toy.spy.samples} == {1}


def test_history_bounds_the_pairs_and_matters():
    def run(history):
        toy = Network()
        return list(LBFGS(history=history, max_iterations=12).iterate(toy, toy.start()))

    short, long = run(2), run(8)
    assert max(it.state.memory["pairs"].shape[1] for it in short[1:]) == 2
    assert [it.state.memory["pairs"].shape[1] for it in long[1:]] == [1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8, 8]
    assert [it.loss for it in short[:3]] == [it.loss for it in long[:3]]
    assert [it.loss for it in short] != [it.loss for it in long]


def test_a_step_of_negative_curvature_makes_no_pair():
    toy = Saddle()
    _, it = LBFGS(max_iterations=1).iterate(toy, [0.0, 0.05])
    g = toy.g(it.state.theta.astype(float), None) - toy.g(np.array([0.0, 0.05]), None)
    assert (g @ (it.state.theta - np.array([0.0, 0.05])) > 0) == ("pairs" in it.state.memory)


def test_a_flat_start_ends_at_once_and_says_what_it_cannot_tell():
    first, last = LBFGS().iterate(Saddle(), [0.0, 0.0])
    assert first.note == ""
    assert "hf method" in last.note
    assert last.rounds == 1
    assert last.direction is None


class Liar(Quadratic):
    def g(self, t, rows):
        return -super().g(t, rows)


def test_without_descent_it_stops_with_theta_untouched():
    *_, last = LBFGS().iterate(Liar(np.eye(2), [0, 0], 1.0), [3.0, 4.0])
    assert (last.iteration, last.rounds, last.alpha) == (1, 2, 0)
    np.testing.assert_array_equal(last.state.theta, [3, 4])


def test_limits_and_wrong_starts():
    toy = Network()
    its = list(LBFGS(target_error=0.2).iterate(toy, toy.start()))
    assert its[-1].error <= 0.2 < its[-2].error
    assert list(LBFGS(target_error=0.2).iterate(toy, state=its[-1].state)) == []
    with pytest.raises(NumericalError, match="finite"):
        list(LBFGS().iterate(toy, np.full(toy.n_params, np.inf)))
    toy.spy.poison = ("loss", toy.spy.seen["loss"] + 1)
    with pytest.raises(NumericalError, match="smaller weights"):
        list(LBFGS().iterate(toy, toy.start()))
