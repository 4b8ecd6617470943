from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba.optim.damping import MAX_DAMPING, MIN_DAMPING, reduction_ratio, updated
from tests.optim.toys import Quadratic


@pytest.mark.parametrize(
    ("rho", "alpha", "factor"),
    [
        (0.9, 1.0, 2 / 3),
        (0.76, 0.25, 2 / 3),
        (0.75, 1.0, 1.0),
        (0.25, 1.0, 1.0),
        (0.24, 1.0, 1.5),
        (-5.0, 1.0, 1.5),
        (0.9, 0.125, 1.5),
        (None, 1.0, 1.5),
        (0.9, None, 1.5),
    ],
)
def test_update_rule(rho, alpha, factor):
    assert updated(0.1, rho, alpha) == pytest.approx(0.1 * factor)


@settings(max_examples=50)
@given(
    st.floats(MIN_DAMPING, MAX_DAMPING),
    st.none() | st.floats(allow_nan=False),
    st.none() | st.floats(1e-3, 300),
)
def test_damping_stays_in_its_range(damping, rho, alpha):
    assert MIN_DAMPING <= updated(damping, rho, alpha) <= MAX_DAMPING


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_rho_is_one_on_a_quadratic_for_any_direction(seed):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((4, 4))
    toy = Quadratic(A + A.T, rng.standard_normal(4))
    t, d = rng.standard_normal((2, 4))
    predicted = toy.g(t, None) @ d + d @ toy.hvp(t, d, None) / 2
    if predicted > 0:
        assert reduction_ratio(toy.f(t, None), toy.f(t + d, None), predicted) is None
    else:
        assert reduction_ratio(toy.f(t, None), toy.f(t + d, None), predicted) == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("at_one", [math.nan, math.inf, -math.inf])
def test_rho_is_unknown_where_f_is_not_finite(at_one):
    assert reduction_ratio(1.0, at_one, -1.0) is None
    assert reduction_ratio(1.0, 0.5, math.nan) is None
    assert reduction_ratio(1.0, 0.5, 0.0) is None
