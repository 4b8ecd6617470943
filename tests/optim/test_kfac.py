"""K-FAC as a method: its rounds, its rules, resuming, and what it does where a loss is not finite."""

import itertools
import json
import math

import numpy as np
import pytest

from hfnumba.engine import ArrayObjective
from hfnumba.engine.rows import sample_indices
from hfnumba.errors import NumericalError, UsageError
from hfnumba.krylov.kronecker import kfac
from hfnumba.network import Network
from hfnumba.objective import Minibatch
from hfnumba.optim.iteration import OptimizerState
from hfnumba.optim.kfac import KFAC
from hfnumba.optim.methods import optimizer
from hfnumba.optim.natural_step import (
    MAX_DAMPING,
    MIN_DAMPING,
    TRUST,
    Numbers,
    averaged,
    averaged_factors,
    has_failed,
    judged,
    measured_scale,
    momentum_step,
    without_last,
)


def blobs(n_rows=700, *, loss="softmax_cross_entropy", activation="tanh", **settings):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 6))
    labels = rng.integers(0, 4, n_rows)
    X = centres[labels] + 0.5 * rng.normal(size=(n_rows, 6))
    network = Network((6, 8, 4), activation, loss)
    y = labels if network.takes_labels else np.eye(4)[labels]
    return ArrayObjective(network, X, y, **settings), network.initialize(0)


def test_minibatches_grow_over_the_first_steps_and_do_not_overlap():
    f, theta = blobs(40_000)
    reads = [0]
    for _ in KFAC(batch_rows=2048, record_every=1, max_iterations=10).iterate(f, theta):
        reads.append(f.counters.row_reads)
    steps = [after - before - 40_000 for before, after in itertools.pairwise(reads)][1:]
    assert steps == [1024, 1117, 1218, 1328, 1448, 1579, 1722, 1878, 2048, 2048]
    samples = [KFAC(batch_rows=2048)._rows(40_000, k) for k in range(10)]
    assert [sample.n_rows for sample in samples] == steps and {sample.draw for sample in samples} == {1}
    edges = range(0, 40_001, 2500)
    rows = [a + sample_indices(sample, a, b, 40_000) for sample in samples for a, b in itertools.pairwise(edges)]
    assert len(np.unique(np.concatenate(rows))) == sum(steps)


def test_a_minibatch_of_all_rows_grows_to_them():
    assert [KFAC()._rows(9_000, k).n_rows for k in (0, 4, 8, 9)] == [1024, 3036, 9_000, 9_000]
    assert KFAC(batch_rows=1024)._rows(9_000, 0).n_rows == 1024


@pytest.mark.parametrize(("n_rows", "batch_rows", "expected"), [(900, 6144, 900), (5000, 500, 500)])
def test_small_minibatches_have_all_their_rows_from_the_start(n_rows, batch_rows, expected):
    f, theta = blobs(n_rows)
    *_, _ = KFAC(batch_rows=batch_rows, record_every=1, max_iterations=2).iterate(f, theta)
    assert f.counters.row_reads == 3 * n_rows + 2 * expected


def answer(**fields):
    values = {"value": 1.0, "gradient": np.zeros(1), "factors": None, "before": 1.0, "after": 0.9, "curvature": 2.0}
    return Minibatch(**(values | fields))


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error"])
@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
@pytest.mark.parametrize("batch_rows", [64, 6144])
def test_it_trains(batch_rows, activation, loss):
    f, theta = blobs(loss=loss, activation=activation)
    steps = 700 // 64 if batch_rows == 64 else 1
    first, *_, last = optimizer("kfac", batch_rows=batch_rows, max_iterations=60 // steps + 1).iterate(f, theta)
    assert last.loss < 0.5 * first.loss
    assert math.isfinite(last.loss)


def test_rounds_of_an_iteration_are_its_steps_and_one_evaluation():
    f, theta = blobs()
    for it in KFAC(batch_rows=100, max_iterations=3).iterate(f, theta):
        assert it.rounds == 1 + it.iteration * (7 + 1)
    for it in KFAC(batch_rows=100, record_every=2, max_iterations=3).iterate(f, theta):
        assert it.rounds == 1 + it.iteration * (2 + 1)


def test_a_vector_that_workers_have_is_not_sent_again():
    f, theta = blobs()
    n_bytes = theta.nbytes
    lines = list(KFAC(batch_rows=100, record_every=1, max_iterations=7).iterate(f, theta))
    factors = sum(v.nbytes for name, v in lines[-1].state.memory.items() if name[0] in "AaG")
    for before, after in itertools.pairwise(lines[1:]):
        # Out: the iterate, the direction, the average; back: the gradient, every second time the factors; losses.
        with_factors = after.iteration % 2 == 1
        expected = 4 * n_bytes + factors * with_factors
        assert expected <= after.nbytes - before.nbytes < expected + 200


@pytest.mark.bits
@pytest.mark.parametrize(("n_rows", "batch_rows", "record_every"), [(700, 100, None), (700, 100, 3), (3000, 1300, 2)])
def test_resumed_from_every_iteration_to_the_same_bits(n_rows, batch_rows, record_every):
    f, theta = blobs(n_rows)
    method = KFAC(batch_rows=batch_rows, record_every=record_every, max_iterations=5, seed=3)
    whole = list(method.iterate(f, theta))
    for stop in range(5):
        state = whole[stop].state
        scalars = json.loads(json.dumps(state.scalars(), allow_nan=False))
        resumed = list(method.iterate(blobs(n_rows)[0], state=OptimizerState.restore(state.tensors(), scalars)))
        for it, expected in zip(resumed, whole[stop + 1 :], strict=True):
            np.testing.assert_array_equal(it.state.theta, expected.state.theta)
            assert it.state.memory.keys() == expected.state.memory.keys()
            line, expected_line = it.as_ledger_line(), expected.as_ledger_line()
            assert line | {"elapsed_s": 0} == expected_line | {"elapsed_s": 0}


def ended_after(n_calls):
    calls = itertools.count(1)
    return lambda: next(calls) >= n_calls


@pytest.mark.bits
@pytest.mark.parametrize("n_calls", [1, 4, 8])
def test_stopped_between_two_steps_it_continues_to_the_same_bits(n_calls):
    f, theta = blobs()
    method = KFAC(batch_rows=100, max_iterations=3, seed=3)
    whole = list(method.iterate(f, theta))
    iterations, seen = method.iterate(blobs()[0], theta, stop=ended_after(n_calls)), []
    while True:
        try:
            seen.append(next(iterations))
        except StopIteration as end:
            state = end.value
            break
    # Six of the seven steps of an epoch are followed by another.
    assert len(seen) == 1 + (n_calls - 1) // 6
    scalars = json.loads(json.dumps(state.scalars(), allow_nan=False))
    seen += method.iterate(blobs()[0], state=OptimizerState.restore(state.tensors(), scalars))
    for it, expected in zip(seen, whole, strict=True):
        np.testing.assert_array_equal(it.state.theta, expected.state.theta)
        assert it.as_ledger_line() | {"elapsed_s": 0} == expected.as_ledger_line() | {"elapsed_s": 0}


class Poisoned:
    """An objective whose minibatches are not finite from a step on, for some steps."""

    def __init__(self, objective, bad):
        self.objective, self.bad, self.n_steps, self.thetas = objective, bad, 0, []

    def __getattr__(self, name):
        return getattr(self.objective, name)

    def minibatch(self, theta, *arguments, **named):
        self.thetas.append(theta)
        result = self.objective.minibatch(theta, *arguments, **named)
        self.n_steps += 1
        return result._replace(value=math.nan) if self.n_steps - 1 in self.bad else result


def test_a_step_that_leads_out_of_range_is_taken_back():
    f, theta = blobs()
    poisoned = Poisoned(f, {3})
    lines = list(KFAC(batch_rows=100, record_every=1, max_iterations=6).iterate(poisoned, theta))
    np.testing.assert_array_equal(poisoned.thetas[4], poisoned.thetas[2])
    assert lines[4].damping == 8 * lines[3].damping
    assert "taken back" in lines[4].note
    assert all(math.isfinite(it.loss) for it in lines)
    with pytest.raises(NumericalError, match="scale the features"):
        list(KFAC(batch_rows=100, max_iterations=4).iterate(Poisoned(f, range(3, 40)), theta))
    with pytest.raises(NumericalError, match="scale the features"):
        list(KFAC(batch_rows=100, max_iterations=4).iterate(Poisoned(f, {0}), theta))


def test_the_step_after_one_that_is_taken_back_has_new_factors():
    f, theta = blobs()
    method = KFAC(batch_rows=100, record_every=1, max_iterations=4)
    *_, straight = method.iterate(f, theta)
    *_, back = method.iterate(Poisoned(f, {2}), theta)
    # Steps 0 and 2 have new ones; where step 2 fails, step 3 has them.
    assert [Numbers(*it.state.memory["numbers"].tolist()).n_factors for it in (straight, back)] == [2, 2]


def test_no_step_decreases_the_model_by_more_than_the_trust():
    f, theta = blobs()
    with f.vectors.using(theta):
        batch = f.minibatch(theta, None, factor_seed=(0,))
    numbers = Numbers(first_loss=batch.value)
    free = momentum_step(batch.gradient, None, kfac(0.1, None, **batch.factors), numbers._replace(first_loss=1e9))
    assert not free.scaled
    bound = momentum_step(batch.gradient, None, kfac(0.1, None, **batch.factors), numbers._replace(first_loss=1e-3))
    assert bound.scaled
    assert math.isclose(-float(batch.gradient @ bound.move), TRUST * 1e-3, rel_tol=1e-5)
    np.testing.assert_array_equal(bound.direction, free.direction)


def test_velocity_that_points_uphill_starts_anew():
    f, theta = blobs()
    batch = f.minibatch(theta, None, factor_seed=(0,))
    numbers = Numbers(step=50.0, first_loss=1e9)
    plain = momentum_step(batch.gradient, None, kfac(0.1, None, **batch.factors), numbers)
    uphill = momentum_step(batch.gradient, 100 * batch.gradient, kfac(0.1, None, **batch.factors), numbers)
    assert uphill.restarted
    assert uphill.note == "the velocity pointed uphill and starts anew"
    assert not plain.note
    np.testing.assert_array_equal(uphill.velocity, plain.velocity)


def test_the_damping_follows_the_reduction_ratio():
    assert judged(Numbers(), answer(), 0.1) == (None, 0.1)
    assert judged(Numbers(slope=-1.0), answer(before=None, after=None), 0.1) == (None, 0.1)
    for rho, factor in {1.0: 2 / 3, 0.5: 1, 0.1: 1.5, -0.5: 1.5, -2.0: 2.25}.items():
        found, damping = judged(Numbers(slope=-1.0), answer(after=1.0 - rho / 2), 0.01)
        assert math.isclose(found, rho)
        assert math.isclose(damping, 0.01 * factor)
    assert judged(Numbers(slope=-1.0), answer(after=3.0), MAX_DAMPING)[1] == MAX_DAMPING
    assert judged(Numbers(slope=-1.0), answer(after=0.0), MIN_DAMPING)[1] == MIN_DAMPING
    # Low ratios raise it to 0.03 at most, and a larger one stays.
    assert judged(Numbers(slope=-1.0), answer(after=3.0), 0.025)[1] == 0.03
    assert judged(Numbers(slope=-1.0), answer(after=3.0), 5.0)[1] == 5.0
    assert math.isclose(judged(Numbers(slope=-1.0), answer(after=0.0), 6.0)[1], 4.0)


def test_a_step_fails_where_the_loss_rises_by_a_tenth_of_the_first_loss():
    numbers = Numbers(first_loss=2.0)
    assert not has_failed(numbers, answer(before=1.0, after=1.19))
    assert has_failed(numbers, answer(before=1.0, after=1.21))
    assert has_failed(numbers, answer(before=1.0, after=math.nan))
    assert has_failed(numbers, answer(before=1.0, after=math.inf))
    assert not has_failed(numbers, answer(before=None, after=None))


def test_an_iterate_that_is_taken_back_leaves_the_average():
    rng = np.random.default_rng(0)
    iterates = rng.normal(size=(8, 5)).astype(np.float32)
    average = iterates[0]
    for k, iterate in enumerate(iterates, start=1):
        before, average = average, averaged(average, iterate, k)
    start = iterates[-2]
    np.testing.assert_allclose(without_last(average, iterates[-1], start, 8), before, rtol=1e-5, atol=1e-6)
    assert without_last(iterates[0], iterates[0], start, 1) is None
    for far in (1e8, math.inf, math.nan):
        assert without_last(average, np.full(5, far, np.float32), start, 8) is None


def test_the_scale_is_a_running_geometric_mean_within_bounds():
    numbers = measured_scale(Numbers(metric=1.0), answer(curvature=4.0))
    assert math.isclose(numbers.log_scale, math.log(4.0))
    numbers = measured_scale(numbers, answer(curvature=1.0))
    assert math.isclose(numbers.log_scale, 0.7 * math.log(4.0))
    for curvature in (0.0, -1.0, math.nan, math.inf):
        assert measured_scale(numbers, answer(curvature=curvature)) == numbers
    assert measured_scale(Numbers(metric=1.0), answer(curvature=1e9)).log_scale == math.log(20.0)


def test_two_factors_have_equal_weights_and_later_ones_a_fixed_weight():
    numbers, factors = Numbers(), {}
    for k, mean in enumerate([0.0, 0.5, 0.6 * 0.5 + 0.4 * 2, 0.6 * 1.1 + 0.4 * 3]):
        numbers, factors = averaged_factors(numbers, factors, {"A1": np.full(3, float(k))}, 0.1)
        np.testing.assert_allclose(factors["A1"], mean)
    assert numbers.factored_damping == 0.1
    assert averaged_factors(numbers, factors, None, 0.2)[0] == numbers


def test_a_state_of_another_method_is_refused():
    f, theta = blobs()
    *_, other = optimizer("adam", max_iterations=1).iterate(f, theta)
    with pytest.raises(UsageError, match="resume with its own method"):
        next(KFAC().iterate(f, state=other.state))
    *_, mine = KFAC(max_iterations=1).iterate(f, theta)
    for method in ("adam", "lbfgs", "hf-cg"):
        with pytest.raises(UsageError, match="resume with its own method"):
            next(optimizer(method).iterate(f, state=mine.state))


@pytest.mark.parametrize("settings", [{"batch_rows": 0}, {"damping": 0.0}, {"record_every": 0}, {"damping": math.nan}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UsageError, match="expected"):
        KFAC(**settings)


def test_constant_features_dead_units_and_a_class_of_one_row():
    rng = np.random.default_rng(0)
    X = np.hstack([rng.normal(size=(300, 3)), np.ones((300, 2)), np.zeros((300, 1))])
    y = (X[:, 0] > 0).astype(np.int32)
    y[0] = 2
    network = Network((6, 8, 3), "relu")
    theta = network.initialize(0)
    next(network.layers(theta)).biases[:4] = -1e3
    first, *_, last = KFAC(batch_rows=64, max_iterations=10).iterate(ArrayObjective(network, X, y), theta)
    assert last.loss < 0.3 * first.loss
