from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba.krylov.result import KrylovResult, KrylovStatus
from hfnumba.optim.damping import MAX_DAMPING, MIN_DAMPING, updated
from hfnumba.optim.direction import Candidate, CurvatureSummary
from hfnumba.optim.iteration import OptimizerState
from hfnumba.optim.line_search import LineSearchResult
from hfnumba.optim.step import Step
from hfnumba.optim.trust import FACTORS, MAX_RADIUS, MIN_RADIUS, Damped, DampingCandidates, Radius
from hfnumba.optim.vectors import norm

RESULT = KrylovResult(np.zeros(2), (), None, (), KrylovStatus.MAXITER, 3)


def step(rho, alpha, length=1.0, index=1):
    d = np.array([length, 0.0], np.float32)
    candidate = Candidate(d, -1.0, None, "newton", index=index)
    found = LineSearchResult(None if alpha is None else d, alpha, 0.0)
    return Step(1.0, RESULT, CurvatureSummary(0, None), candidate, found, rho)


def state(**fields):
    return OptimizerState(np.zeros(2, np.float32), **fields)


@pytest.mark.parametrize(
    ("rho", "alpha", "length", "radius"),
    [
        (0.9, 1.0, 2.0, 4.0),  # right at the edge
        (0.9, 1.0, 1.0, 2.0),  # right inside
        (0.5, 1.0, 2.0, 2.0),  # fair at the edge
        (0.9, 4.0, 2.0, 8.0),  # longer than twice the radius
        (0.5, 4.0, 2.0, 8.0),
        (0.1, 0.5, 2.0, 1.0),  # wrong: the length of the step
        (0.1, 0.125, 2.0, 0.5),  # but at least a quarter
        (None, 8.0, 2.0, 16.0),  # no decrease predicted at length 1, but a long step along it paid
        (0.9, None, 2.0, 0.5),  # nothing accepted
        (None, None, 2.0, 0.5),
    ],
)
def test_radius_rule(rho, alpha, length, radius):
    assert Radius().following(state(damping=0.0, radius=2.0), step(rho, alpha, length))["radius"] == pytest.approx(
        radius
    )


@settings(max_examples=50)
@given(
    st.floats(MIN_RADIUS, MAX_RADIUS),
    st.none() | st.floats(-10, 10),
    st.none() | st.floats(1e-3, 300),
    st.floats(0, 1e6),
)
def test_radius_stays_in_its_range(radius, rho, alpha, length):
    after = Radius().following(state(damping=0.0, radius=radius), step(rho, alpha, length))["radius"]
    assert MIN_RADIUS <= after <= MAX_RADIUS


def test_a_warm_start_is_shortened_to_lie_in_the_region():
    x0 = np.array([3.0, 4.0], np.float32)
    inside = Radius().arguments(state(damping=0.0, radius=10.0), x0, 1.3, norm)
    assert inside["x0"] is x0
    outside = Radius().arguments(state(damping=0.0, radius=1.0), x0, 1.3, norm)
    np.testing.assert_allclose(outside["x0"], [0.54, 0.72], rtol=1e-6)
    assert outside["radius"] == 1
    in_metric = Radius().arguments(state(damping=0.0, radius=10.0), x0, 1.3, lambda v: 4 * norm(v))
    np.testing.assert_allclose(in_metric["x0"], x0 * 0.9 * 10 / 20, rtol=1e-6)


def test_the_radius_is_measured_in_the_metric():
    taken = replace(step(0.1, 0.5, 2.0), length=lambda v: 3 * norm(v))
    assert Radius().following(state(damping=0.0, radius=2.0), taken)["radius"] == pytest.approx(3.0)


def test_the_best_candidate_determines_the_damping():
    rule, before = DampingCandidates(), state(damping=0.08)
    assert rule.arguments(before, None, 1.3, norm)["dampings"] == pytest.approx([0.08 * factor for factor in FACTORS])
    for index, factor in enumerate(FACTORS, 1):
        after = rule.following(before, step(0.5, 1.0, index=index))["damping"]
        assert after == pytest.approx(0.08 * factor)
    assert rule.following(before, step(0.9, 1.0, index=2))["damping"] == pytest.approx(0.08 * FACTORS[1] * 2 / 3)
    # Neither a direction of negative curvature nor a rejected step says anything of the dampings.
    assert rule.following(before, step(0.5, 1.0, index=0))["damping"] == 0.08
    assert rule.following(before, step(0.5, None, index=5))["damping"] == pytest.approx(0.08 * 3 / 2)


def test_competing_dampings_stay_in_their_range():
    assert min(DampingCandidates.dampings(MIN_DAMPING)) == MIN_DAMPING
    assert max(DampingCandidates.dampings(MAX_DAMPING)) == MAX_DAMPING


def test_damped_is_the_rule_of_levenberg_and_marquardt():
    rule, before = Damped(), state(damping=0.5)
    assert rule.shift(before) == 0.5
    assert rule.following(before, step(0.9, 1.0)) == {"damping": updated(0.5, 0.9, 1.0)}
