"""The rule of early stopping, against plain loops and laws."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfnumba.errors import UsageError
from hfnumba.optim.early_stopping import BestSoFar, EarlyStopping

VALUES = st.lists(st.one_of(st.floats(1e-3, 1e3), st.sampled_from([math.nan, math.inf, None])), min_size=1, max_size=40)
RULES = st.builds(EarlyStopping, st.integers(1, 12), st.sampled_from([0.0, 1e-4, 0.01, 0.5, 1.0]))


def states(rule: EarlyStopping, values: list[float | None]) -> list[BestSoFar]:
    """State after each value."""
    pairs = enumerate(values)
    return list(accumulate(pairs, lambda state, pair: rule.after(state, *pair), initial=BestSoFar()))[1:]


@settings(deadline=None)
@given(RULES, VALUES)
def test_the_best_is_the_first_lowest_finite_value(rule: EarlyStopping, values: list[float | None]) -> None:
    for n, state in enumerate(states(rule, values), start=1):
        numbers = np.array([math.inf if v is None or not math.isfinite(v) else v for v in values[:n]])
        if np.isinf(numbers).all():
            assert (state.iteration, state.value) == (None, None)
        else:
            assert (state.iteration, state.value) == (int(numbers.argmin()), numbers.min())


@settings(deadline=None)
@given(st.integers(1, 12), VALUES)
def test_without_a_smallest_improvement_it_stops_after_patience_without_a_new_minimum(
    patience: int, values: list[float | None]
) -> None:
    for n, state in enumerate(states(EarlyStopping(patience, 0.0), values)):
        since = n + 1 if state.iteration is None else n - state.iteration
        assert EarlyStopping(patience, 0.0).stops(state) is (since >= patience)


@settings(deadline=None)
@given(RULES, VALUES, st.sampled_from([0.25, 2.0, 1024.0]))
def test_the_rule_does_not_depend_on_the_unit_of_the_loss(
    rule: EarlyStopping, values: list[float | None], factor: float
) -> None:
    scaled = states(rule, [None if v is None else v * factor for v in values])
    for a, b in zip(states(rule, values), scaled, strict=True):
        assert (a.iteration, a.n_without) == (b.iteration, b.n_without)


def test_improvements_too_small_add_up_to_one_that_counts() -> None:
    rule = EarlyStopping(patience=3, min_improvement=0.01)
    counted = [state.n_without for state in states(rule, [1.0, 0.996, 0.992, 0.988, 0.984, 0.983, 0.982])]
    assert counted == [0, 1, 2, 0, 1, 2, 3]
    last = states(rule, [1.0, 0.996, 0.992, 0.988, 0.984, 0.983, 0.982])[-1]
    assert rule.stops(last)
    assert (last.iteration, last.value) == (6, 0.982)


def test_negative_values_improve_downwards() -> None:
    rule = EarlyStopping(patience=2, min_improvement=0.1)
    assert [state.n_without for state in states(rule, [-1.0, -1.05, -1.2, -1.1])] == [0, 1, 0, 1]


def test_a_state_that_was_stored_continues_the_same() -> None:
    rule, values = EarlyStopping(3, 0.01), [5.0, 4.0, 4.5, None, 3.99]
    assert states(rule, values)[-1] == rule.after(replace(states(rule, values[:-1])[-1]), 4, 3.99)


@pytest.mark.parametrize("given_settings", [{"patience": 0}, {"patience": 1.5}, {"min_improvement": -0.1}])
def test_settings_out_of_range_are_refused(given_settings: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(given_settings))):
        EarlyStopping(**given_settings)  # type: ignore[arg-type]
