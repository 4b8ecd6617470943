from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba.krylov.bicgstab import bicgstab
from hfnumba.krylov.cg import cg
from hfnumba.krylov.function_operator import as_operator
from hfnumba.krylov.operator import shifted
from hfnumba.krylov.result import CurvedDirection, Iterate, KrylovResult, KrylovStatus
from hfnumba.optim.direction import (
    MAX_ITERATES,
    Candidate,
    best_ranked,
    krylov_candidates,
    negative_curvature,
    predicts_nothing,
    steepest_descent,
    summarise_curvature,
)

SOLVERS = {"cg": cg, "bicgstab": bicgstab}


def candidates_of(solver, B, g, damping, value=1.0, maxiter=5):
    g = np.asarray(g, np.float32)
    B = np.asarray(B, np.float32)
    result = SOLVERS[solver](shifted(as_operator(B), damping), -g, maxiter=maxiter)
    return krylov_candidates(result, g, value, damping, indefinite=True), result


def result_with(lowest=None, iterates=(), rayleighs=(), x=None):
    return KrylovResult(
        np.zeros(2, np.float32) if x is None else np.asarray(x, np.float32),
        tuple(iterates),
        lowest,
        tuple(rayleighs),
        KrylovStatus.MAXITER,
        3,
    )


def curved(d, rayleigh):
    d = np.asarray(d, np.float32)
    squared = float(d.astype(float) @ d.astype(float))
    return CurvedDirection(d, rayleigh * squared, squared)


@pytest.mark.parametrize("solver", SOLVERS)
@settings(max_examples=40, derandomize=True)
@given(st.integers(0, 10**6), st.integers(2, 12), st.sampled_from([1e-6, 1e-3, 0.1, 3.0]))
def test_candidates_descend_and_know_their_curvature(solver, seed, n, damping):
    rng = np.random.default_rng(seed)
    B = rng.standard_normal((n, n))
    B = (B + B.T) / 2
    g = rng.standard_normal(n)
    found, _ = candidates_of(solver, B, g, damping)
    assert found
    scale = np.linalg.norm(B, 2) + damping
    for c in found:
        d = c.d.astype(float)
        assert np.isfinite(d).all()
        assert c.slope <= 0
        assert c.slope == pytest.approx(g @ d, rel=1e-3, abs=1e-5 * np.linalg.norm(g) * np.linalg.norm(d))
        # x'Ax follows from the residual, and float32 Bi-CG-STAB residuals drift where the iterates grow.
        reach = max((d @ d) * scale, np.linalg.norm(g) * np.linalg.norm(d))
        assert c.curvature == pytest.approx(d @ B @ d, abs=2e-2 * reach)
        if c.kind == "negative_curvature":
            assert d @ B @ d < 0


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("damping", [0.0, 1e-6, 0.1])
@pytest.mark.parametrize(
    ("B", "g"),
    [
        ([[0, 1], [1, 0]], [-1, 0]),
        ([[1, 0], [0, -1]], [-1, -1]),
        ([[0, -1], [1, 0]], [-1, -2]),
        ([[0, 0], [0, 0]], [-1, -2]),
        ([[1e-30, 0], [0, -1e-30]], [1, 1]),
        ([[1e30, 0], [0, -1e30]], [1, 1]),
        ([[1, 0], [0, 2]], [1e-25, 1e-25]),
    ],
)
def test_breakdowns_never_give_nan(solver, B, g, damping):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, result = candidates_of(solver, B, g, damping)
        seen = summarise_curvature(result, damping)
    for c in found:
        assert np.isfinite(c.d).all()
        assert math.isfinite(c.slope)
        assert math.isfinite(c.curvature)
        assert c.slope < 0 or c.curvature < 0
    assert seen.lowest is None or math.isfinite(seen.lowest)


@pytest.mark.parametrize("solver", SOLVERS)
def test_zero_gradient_gives_no_candidates(solver):
    found, result = candidates_of(solver, np.eye(2), [0, 0], 0.1)
    assert found == []
    assert summarise_curvature(result, 0.1).n_negative == 0


def test_candidates_know_their_iterate_and_the_last_can_stand_alone():
    A = np.diag(np.linspace(1, 50, 20)).astype(np.float32)
    g = np.ones(20, np.float32)
    result = cg(shifted(as_operator(A), 0.1), -g, maxiter=5)
    several = krylov_candidates(result, g, 1.0, 0.1, indefinite=True)
    assert [c.index for c in several] == [it.index for it in result.iterates] == [1, 2, 3, 4, 5]
    (last,) = krylov_candidates(result, g, 1.0, 0.1, indefinite=True, last_only=True)
    assert last.index == 5
    np.testing.assert_array_equal(last.d, result.x)


def test_iterate_that_climbs_is_flipped_and_says_so():
    x = np.array([1.0, 0.0], np.float32)
    it = Iterate(1, x, 3.0, 0.0, 1.0)
    (c,) = krylov_candidates(result_with(iterates=[it], x=x), np.array([2.0, 5.0]), 1.0, 0.5, indefinite=True)
    assert (c.sign, c.slope, c.curvature, c.kind) == (-1, -2.0, 2.5, "newton")
    np.testing.assert_array_equal(c.d, -x)
    np.testing.assert_array_equal(x, [1, 0])


def test_candidates_not_finite_are_left_out():
    bad = [
        Iterate(1, np.array([np.nan, 0], np.float32), 1.0, 0.0, 1.0),
        Iterate(2, np.array([1, 0], np.float32), np.nan, 0.0, 1.0),
    ]
    result = result_with(curved([np.inf, 1], -1), bad, [-1.0])
    assert krylov_candidates(result, np.ones(2, np.float32), 1.0, 0.1, indefinite=True) == []


def test_no_more_than_the_limit_and_always_the_last():
    its = [Iterate(i, np.full(2, i, np.float32), 1.0, -1.0, 1.0) for i in range(1, 18)]
    found = krylov_candidates(result_with(iterates=its), -np.ones(2), 1.0, 0.0, indefinite=True)
    assert len(found) == MAX_ITERATES
    assert (found[0].d[0], found[-1].d[0]) == (1, 17)


def test_positive_semidefinite_matrix_has_no_negative_curvature_candidate():
    result = result_with(curved([1, 1], -0.5), rayleighs=[-0.5])
    g = np.ones(2, np.float32)
    assert krylov_candidates(result, g, 1.0, 0.1, indefinite=False) == []
    assert len(krylov_candidates(result, g, 1.0, 0.1, indefinite=True)) == 1


def test_damping_is_taken_off_and_rounding_is_not_negative():
    result = result_with(rayleighs=[0.05, 10.0, 0.1 - 1e-7, 0.5])
    seen = summarise_curvature(result, 0.1)
    assert (seen.n_negative, seen.lowest) == (1, pytest.approx(-0.05))
    barely = result_with(curved([1, 0], 0.1 - 1e-7), rayleighs=[10.0, 0.1 - 1e-7])
    assert negative_curvature(barely, np.ones(2, np.float32), 1.0, 0.1, cap=1.0) is None


class TestLengthOfNegativeCurvature:
    g = np.array([0.3, 4.0], np.float32)

    def of(self, d, cap, g=None, rayleigh=-2.0, value=1.0):
        return negative_curvature(
            result_with(curved(d, rayleigh), rayleighs=[rayleigh]),
            self.g if g is None else g,
            value,
            0.0,
            cap=cap,
        )

    def test_newton_length_without_its_sign(self):
        for d in ([7.0, 0.0], [-7.0, 0.0], [1e-20, 0.0], [1e15, 0.0]):
            c = self.of(d, cap=10.0)
            np.testing.assert_allclose(c.d, [-0.15, 0], rtol=1e-6)
            assert c.slope == pytest.approx(-0.045)
            assert c.curvature == pytest.approx(-0.045)

    def test_capped_by_the_iterate(self):
        np.testing.assert_allclose(self.of([1, 0], cap=0.01).d, [-0.01, 0], rtol=1e-6)

    def test_no_iterate_no_cap(self):
        np.testing.assert_allclose(self.of([1, 0], cap=0.0).d, [-0.15, 0], rtol=1e-6)

    @pytest.mark.parametrize("d", [[0.0, 3.0], [0.0, -3.0]])
    def test_sgn_of_zero_still_gives_a_direction(self, d):
        c = self.of(d, cap=0.5, g=np.array([1.0, 0.0], np.float32))
        assert c.slope == 0
        assert np.linalg.norm(c.d) == pytest.approx(0.5)
        assert c.curvature == pytest.approx(-0.5)

    def test_long_enough_to_be_measured(self):
        c = self.of([0, 1], cap=0.0, g=np.array([1.0, 1e-12], np.float32), value=3.0)
        assert -c.predicted() >= 0.999 * 1e-7 * 3.0


def test_steepest_descent_reaches_zero_of_the_linear_model_unless_capped():
    g = np.array([3.0, 4.0], np.float32)
    c = steepest_descent(g, 10.0, 0.0)
    assert 10.0 + c.predicted() == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(c.d, [-1.2, -1.6], rtol=1e-6)
    assert np.linalg.norm(steepest_descent(g, 10.0, 0.5).d) == pytest.approx(0.5)
    assert steepest_descent(np.zeros(2, np.float32), 10.0, 0.0) is None
    assert steepest_descent(np.array([np.nan, 1], np.float32), 10.0, 0.0) is None


def test_ranking_skips_what_is_not_finite():
    cs = [Candidate(np.zeros(1), -1.0, 0.0, "newton") for _ in range(4)]
    assert best_ranked(cs, np.array([np.nan, 2.0, -np.inf, 2.0])) is cs[1]
    assert best_ranked(cs, np.array([np.nan, np.inf, np.nan, np.inf])) is None


def test_flat_means_all_models_promise_less_than_noise():
    little, much = (Candidate(np.zeros(1), slope, 0.0, "newton") for slope in (-1e-9, -1e-3))
    assert predicts_nothing([little], 1.0)
    assert not predicts_nothing([little, much], 1.0)
    assert not predicts_nothing([little], 1e-3)
