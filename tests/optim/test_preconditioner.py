"""Martens' preconditioner: its formula, what of a solve it is made of, and what it does to one."""

from __future__ import annotations

import numpy as np
import pytest

from hfnumba.krylov import cg
from hfnumba.krylov.preconditioners import martens
from hfnumba.optim.hessian_free import HessianFree
from tests.optim.toys import Network, Quadratic


@pytest.mark.parametrize("damping", [1e-6, 0.1, 1e4])
def test_the_formula(damping):
    fisher = np.geomspace(1e-12, 1e6, 50).astype(np.float32)
    fisher[0] = 0
    M = martens(fisher, damping)
    expected = (fisher.astype(float) + damping) ** -0.75
    applied = M.matvec(np.ones(50, np.float32))
    assert applied.dtype == np.float32
    np.testing.assert_allclose(applied, expected, rtol=1e-5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, np.finfo(np.float32).max, 0.0])
def test_it_is_finite_and_positive_whatever_the_squares(value):
    applied = martens(np.array([value, 1.0], np.float32), 1e-6).matvec(np.ones(2, np.float32))
    assert np.isfinite(applied).all()
    assert (applied > 0).all()


def test_the_first_solve_is_the_textbooks_with_the_squares_of_its_sample_and_its_damping():
    toy = Network()
    theta = toy.start()
    it0, it1 = HessianFree("gn-cg", curvature_rows=48, preconditioner="fisher", max_iterations=1, seed=3).iterate(
        toy, theta
    )
    rows = toy.rows(toy.spy.samples[0])
    B = np.stack([toy.gnvp(theta.astype(float), e, rows) for e in np.eye(toy.n_params)])
    gradients = np.stack([toy.g(theta.astype(float), rows[[i]]) for i in range(48)])
    M = np.diag(((gradients**2).mean(0) + 0.1) ** -0.75)
    expected = cg(B + 0.1 * np.eye(toy.n_params), -toy.g(theta.astype(float), toy.rows(None)), M=M, maxiter=10)
    steps = [iterate.x for iterate in expected.iterates]
    taken = (it1.state.theta - it0.state.theta).astype(float) / it1.alpha
    assert min(np.linalg.norm(taken - x) / np.linalg.norm(x) for x in steps) < 1e-3


def test_a_badly_scaled_quadratic_is_solved_in_fewer_products():
    """Where the squares of the gradient tell the scales, CG needs them no more."""
    scales = np.geomspace(1, 1e4, 30)
    toy = Quadratic(np.diag(scales), np.zeros(30), 1.0)
    theta = (1 / np.sqrt(scales)).astype(np.float32)
    losses = {}
    for preconditioner in ("none", "fisher"):
        optimiser = HessianFree("hf-cg", preconditioner=preconditioner, max_iterations=1, krylov_iterations=5)
        losses[preconditioner] = list(optimiser.iterate(toy, theta))[-1].loss - 1
    assert losses["fisher"] < losses["none"] / 2
