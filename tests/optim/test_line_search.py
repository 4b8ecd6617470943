from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba.objective import RowSample
from hfnumba.optim.direction import Candidate
from hfnumba.optim.line_search import ARMIJO, search, step_lengths, sufficient
from tests.optim.toys import Hidden, Network, Quadratic, Rosenbrock, Saddle

KINDS = ["newton", "negative_curvature", "gradient"]


def along(toy, theta, d, kind="newton"):
    theta, d = np.asarray(theta, np.float32), np.asarray(d, np.float32)
    rows = toy.rows(None)
    g, B = toy.g(theta.astype(float), rows), toy.hvp(theta.astype(float), d.astype(float), rows)
    return theta, float(toy.f(theta.astype(float), rows)), Candidate(d, float(g @ d), float(d @ B), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_step_lengths_fall_and_contain_one(kind):
    lengths = step_lengths(kind)
    assert 1.0 in lengths
    assert list(lengths) == sorted(set(lengths), reverse=True)
    assert max(lengths) == {"newton": 2, "negative_curvature": 256, "gradient": 1}[kind]
    assert min(lengths) <= 2**-7


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_sample_everything_is_evaluated_there_in_one_round(kind):
    toy, sample = Network(n_rows=120), RowSample(15, seed=3, draw=2, index=1)
    theta, value = toy.start(), math.nan  # f over all rows plays no part
    d = -toy.g(theta.astype(float), toy.rows(None)).astype(np.float32)
    found = search(toy, theta, value, Candidate(d, -float(d @ d), 0.0, kind), rows=sample)
    assert (toy.counters.rounds, toy.counters.row_reads) == (1, 15)
    there = {alpha: toy.loss(theta + np.float32(alpha) * d, toy.rows(sample)) for alpha in (0, *step_lengths(kind))}
    assert (found.value_at_zero, found.value_at_one) == (there[0], there[1])
    assert found.alpha == min(step_lengths(kind), key=there.get)
    assert there[found.alpha] < there[0]


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from(KINDS))
def test_takes_the_lowest_sufficient_value_in_one_round(seed, kind):
    rng = np.random.default_rng(seed)
    toy = Rosenbrock()
    d = rng.standard_normal(2) * 10.0 ** rng.uniform(-3, 1)
    theta, value, c = along(toy, rng.standard_normal(2), d, kind)
    if c.slope > 0:
        c = Candidate(-c.d, -c.slope, c.curvature, kind)
    found = search(toy, theta, value, c)
    assert toy.counters.rounds == 1
    ok = {}
    for alpha in step_lengths(kind):
        f = toy.f((theta + np.float32(alpha) * c.d).astype(float), None)
        bound = value + ARMIJO * (alpha * c.slope + alpha**2 / 2 * min(c.curvature, 0))
        if f <= bound and f <= value - 1e-7 * abs(value):
            ok[alpha] = f
        if alpha == 1:
            assert found.value_at_one == pytest.approx(f)
    if not ok:
        assert found.theta is None
        assert found.alpha is None
    else:
        assert found.alpha == min(ok, key=ok.get)
        np.testing.assert_array_equal(found.theta, theta + np.float32(found.alpha) * c.d)
        assert found.theta.dtype == np.float32


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from(KINDS))
def test_backtracking_takes_the_first_sufficient_length_in_one_round(seed, kind):
    rng = np.random.default_rng(seed)
    toy = Rosenbrock()
    theta, value, c = along(toy, rng.standard_normal(2), rng.standard_normal(2) * 10.0 ** rng.uniform(-3, 1), kind)
    if c.slope > 0:
        c = Candidate(-c.d, -c.slope, c.curvature, kind)
    found = search(toy, theta, value, c, "backtracking")
    assert toy.counters.rounds == 1
    alpha = 1.0
    while alpha >= 2.0**-15:
        f = toy.f((theta + np.float32(alpha) * c.d).astype(float), None)
        if f <= min(value + ARMIJO * (alpha * c.slope + alpha**2 / 2 * min(c.curvature, 0)), value * (1 - 1e-7)):
            break
        alpha /= 2
    assert found.alpha == (alpha if alpha >= 2.0**-15 else None)


def test_climbs_nowhere():
    toy = Quadratic(np.eye(2), [0, 0], 1.0)
    theta, value, c = along(toy, [1, 1], [1e-4, 0])
    found = search(toy, theta, value, Candidate(c.d, -abs(c.slope), c.curvature, "newton"))
    assert found.theta is None


def test_a_decrease_within_the_noise_of_the_loss_is_none():
    toy = Quadratic(np.eye(1) * 1e-9, [0], 1.0)
    theta, value, c = along(toy, [1.0], [-1.0])
    assert search(toy, theta, value, c).theta is None


def test_ridge_is_left_although_the_slope_is_zero():
    toy = Saddle()
    theta, value, c = along(toy, [0.5, 0.0], [0.0, 1e-2], "negative_curvature")
    assert c.slope == 0
    found = search(toy, theta, value, c)
    assert found.alpha == 64.0  # 0.64 is nearer to the minimum at 0.707 than 1.28
    assert toy.f(found.theta.astype(float), None) < value - 0.2


def test_negative_curvature_must_earn_its_second_order_decrease():
    c = Candidate(np.ones(1), 0.0, -2.0, "negative_curvature")
    alphas = np.array([1.0, 1.0])
    just = ARMIJO * 1.0
    accepted = sufficient(c, 1.0, alphas, np.array([1 - 0.9 * just, 1 - 1.1 * just]))
    assert accepted.tolist() == [False, True]
    uphill = Candidate(np.ones(1), 0.0, +2.0, "newton")
    assert sufficient(uphill, 1.0, alphas, np.array([1 - 0.9 * just, 1.0])).tolist() == [True, False]


def test_values_that_are_not_finite_are_never_taken():
    c = Candidate(np.ones(1), -1.0, 1.0, "newton")
    values = np.array([np.nan, -np.inf, np.inf, 0.5])
    assert sufficient(c, 1.0, np.ones(4), values).tolist() == [False, False, False, True]
    assert not sufficient(c, 0.0, np.ones(1), np.array([0.0])).any()


def test_infinite_parameters_behind_a_finite_loss_are_not_taken():
    theta = np.full(2, 3e38, np.float32)
    c = Candidate(np.full(2, 1e38, np.float32), -1e-3, 0.0, "newton")
    with np.errstate(over="ignore"):
        assert not np.isfinite(theta + 2 * c.d).any()
        assert Hidden().f(theta + 2 * c.d, None) == 1.0
        assert search(Hidden(), theta, 3.0, c).theta is None
