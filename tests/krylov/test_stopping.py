"""The stopping rule and the grid of stored iterates, against their definitions."""

import math

import numpy as np
import pytest

from hfnumba.krylov import RelativeProgress
from hfnumba.krylov.stopping import on_grid, relative_progress
from hfnumba.krylov.vectors import dot


def test_relative_progress_by_hand():
    assert relative_progress(-10.0, -9.0) == pytest.approx(0.1)
    assert relative_progress(-10.0, -10.0) == 0.0
    assert relative_progress(-10.0, 5.0) == pytest.approx(1.5)


def test_no_stop_before_the_window_is_full():
    flat = [-1.0] * 11
    assert not RelativeProgress().stops(flat)  # i = 10 = k
    assert RelativeProgress().stops([*flat, -1.0])  # i = 11 > k = 10


def test_no_stop_while_the_model_is_not_negative():
    assert not RelativeProgress().stops([1.0] * 50)
    assert not RelativeProgress().stops([0.0] * 50)


@pytest.mark.parametrize("gain, stops", [(0.0049, True), (0.0051, False)])
def test_the_threshold_is_k_times_the_tolerance(gain, stops):
    models = [-(1.0 - gain)] * 11 + [-1.0] * 1  # phi_11 against phi_1
    assert RelativeProgress().stops(models) is stops


def test_the_window_grows_with_the_iterations():
    """At i = 205 the window is ceil(20.5) = 21: phi_184 counts, phi_185 does not."""
    models = [-0.5] * 185 + [-1.0] * 21
    assert len(models) == 206 and not RelativeProgress().stops(models)
    models[184] = -1.0
    assert RelativeProgress().stops(models)


@pytest.mark.parametrize("arguments", [{"tolerance": 0}, {"tolerance": np.nan}, {"window": -0.1}, {"min_window": 0}])
def test_wrong_rules_are_refused(arguments):
    with pytest.raises(ValueError, match=f"expected {next(iter(arguments))}"):
        RelativeProgress(**arguments)


@pytest.mark.parametrize("ratio", [1.05, 1.3, 1.5, 2.0, 10.0])
def test_the_grid_is_its_definition(ratio):
    grid = {math.ceil(ratio**i) for i in range(200) if ratio**i <= 500}
    assert [j for j in range(1, 500) if on_grid(j, ratio)] == sorted(grid - {500})


@pytest.mark.parametrize("ratio", [math.nextafter(1, 2), 1e300, math.inf])
def test_extreme_grids_end(ratio):
    stored = [j for j in range(1, 1000) if on_grid(j, ratio)]
    assert stored == (list(range(1, 1000)) if ratio < 2 else [1])


def test_dot_of_float32_is_accumulated_in_float64():
    rng = np.random.default_rng(0)
    u, v = (rng.standard_normal(300_000).astype(np.float32) for _ in range(2))
    assert dot(u, v) == pytest.approx(math.fsum(u.astype(np.float64) * v.astype(np.float64)), abs=1e-9)
    big = np.full(10, 1e30, np.float32)
    assert dot(big, big) == pytest.approx(1e61, rel=1e-6)
    assert math.isnan(dot(np.array([np.inf, 0.0]), np.array([0.0, 1.0])))
