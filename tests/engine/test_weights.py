"""Weights of rows and of classes: against JAX, and the laws that say what they mean."""

from fractions import Fraction

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from hfnumba.engine import ArrayObjective, DaskObjective, SplitObjective
from hfnumba.engine.memory import reserved_nbytes
from hfnumba.engine.rows import sample_indices
from hfnumba.errors import DataError, UsageError
from hfnumba.ingest import write_frames, write_store
from hfnumba.network import LOSSES, Network
from hfnumba.objective import RowSample
from hfnumba.store.checks import checked_weights
from hfnumba.store.class_weights import balanced
from tests.kernels.test_fisher_diagonal import fisher_of
from tests.laws.objective_laws import check_objective, relative
from tests.oracles import loops
from tests.oracles.jax_network import Oracle, row_gradients


def problem(loss="softmax_cross_entropy", activation="tanh", hidden=(5, 4), n_rows=300, seed=0):
    rng = np.random.default_rng(seed)
    network = Network([6, *hidden, 3], activation, loss)
    X = rng.standard_normal((n_rows, 6))
    y = rng.integers(0, 3, n_rows) if network.takes_labels else rng.uniform(0, 1, (n_rows, 3))
    theta = network.initialize(seed, dtype=np.float64) + 0.2 * rng.standard_normal(network.n_params)
    weights = rng.uniform(0.2, 5, n_rows)
    weights[::4] = 0
    return network, X, y, theta, weights


def columns(operator):
    return np.stack([operator.matvec(e) for e in np.eye(operator.shape[0], dtype=operator.dtype)], axis=1)


def everything(f, theta, sample=None, error=True):
    """All that an objective answers, the error rate last."""
    v = (np.arange(f.n_params) / f.n_params - 0.3).astype(theta.dtype)
    point = f.linearize(theta, sample, preconditioner="fisher")
    found = [point.value, point.gradient, fisher_of(point)]
    found += [point.hessian().matvec(v), point.gauss_newton().matvec(v), *f.value_and_gradient(theta, sample)]
    found += [f.values_along(theta, [v, -v], [1.0, 0.25], sample), f.value(theta)]
    return [*found, point.error] if error else found


def assert_close(a, b, tolerance):
    for x, y in zip(a, b, strict=True):
        assert relative(x, y) <= tolerance


def assert_same_bits(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("activation", "hidden"), [("tanh", [5, 4]), ("softplus", [])])
def test_against_jax(activation, hidden, loss):
    network, X, y, theta, weights = problem(loss, activation, hidden, n_rows=13)
    oracle = Oracle(network, theta, X, y, weights)
    rows = row_gradients(network, theta, X, y)
    fisher = np.average(rows**2, axis=0, weights=weights)
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 2e-5)):
        f = ArrayObjective(network, X, y, dtype=dtype, n_partitions=3, weights=weights)
        point = f.linearize(theta.astype(dtype), preconditioner="fisher")
        assert abs(point.value - oracle.value) <= tolerance * abs(oracle.value)
        assert relative(point.gradient, oracle.gradient) <= tolerance
        assert relative(columns(point.hessian()), oracle.hessian) <= tolerance
        assert relative(columns(point.gauss_newton()), oracle.gauss_newton) <= tolerance
        assert relative(fisher_of(point), fisher) <= 2 * tolerance


@pytest.mark.parametrize("loss", LOSSES)
def test_central_differences(loss):
    network, X, y, theta, weights = problem(loss)
    f = ArrayObjective(network, X, y, dtype=np.float64, l2=0.1, weights=weights)
    v, h = np.random.default_rng(1).standard_normal(network.n_params), 1e-5
    point, ahead, behind = (f.linearize(theta + s * h * v) for s in (0, 1, -1))
    assert abs((ahead.value - behind.value) / (2 * h) - point.gradient @ v) <= 1e-6 * abs(point.gradient @ v)
    assert relative(point.hessian().matvec(v), (ahead.gradient - behind.gradient) / (2 * h)) <= 1e-6


@pytest.mark.parametrize("l2", [0.0, 0.01])
@pytest.mark.parametrize("curvature_rows", [None, 100])
def test_the_laws_of_objectives(curvature_rows, l2):
    network, X, y, theta, weights = problem()
    f = ArrayObjective(network, X, y, weights=weights, l2=l2)
    check_objective(f, theta.astype(np.float32), 1e-5, curvature_rows)


@pytest.mark.parametrize("loss", LOSSES)
def test_weight_two_is_a_row_given_twice(loss):
    network, X, y, theta, _ = problem(loss)
    weights = np.random.default_rng(1).integers(1, 4, len(X))
    weighted = ArrayObjective(network, X, y, dtype=np.float64, weights=weights)
    repeated = ArrayObjective(network, np.repeat(X, weights, 0), np.repeat(y, weights, 0), dtype=np.float64)
    assert_close(everything(weighted, theta, error=False), everything(repeated, theta, error=False), 1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_weight_zero_is_a_row_that_is_not_there(loss):
    network, X, y, theta, weights = problem(loss)
    there = weights > 0
    f = ArrayObjective(network, X, y, dtype=np.float64, weights=weights)
    g = ArrayObjective(network, X[there], y[there], dtype=np.float64, weights=weights[there])
    assert_close(everything(f, theta), everything(g, theta), 1e-12)


def test_a_row_of_weight_zero_may_overflow():
    network = Network([2, 3])
    X, y = np.array([[1.0, 0], [3e38, 3e38]]), np.array([0, 1])
    theta = np.full(network.n_params, 3e5, np.float32)
    f = ArrayObjective(network, X, y, weights=[1, 0])
    assert f.value(theta) == ArrayObjective(network, X[:1], y[:1]).value(theta)
    assert not np.isfinite(ArrayObjective(network, X, y).value(theta))


@pytest.mark.parametrize("loss", LOSSES)
def test_only_ratios_matter(loss):
    network, X, y, theta, weights = problem(loss)
    theta = theta.astype(np.float32)
    reference = everything(ArrayObjective(network, X, y, weights=weights), theta)
    assert_same_bits(everything(ArrayObjective(network, X, y, weights=weights * 2.0**20), theta), reference)
    for factor in (1e-9, 3.0, 1e11):
        assert_close(everything(ArrayObjective(network, X, y, weights=factor * weights), theta), reference, 1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_equal_weights_are_none(loss):
    network, X, y, theta, _ = problem(loss)
    plain, weighted = (ArrayObjective(network, X, y, dtype=np.float64, weights=w) for w in (None, np.full(300, 7)))
    assert_close(everything(weighted, theta), everything(plain, theta), 1e-13)


def test_a_sample_is_divided_by_its_own_weights():
    network, X, y, theta, weights = problem()
    f = ArrayObjective(network, X, y, dtype=np.float64, n_partitions=1, weights=weights)
    sample = RowSample(100, seed=3)
    rows = sample_indices(sample, 0, 300, 300)
    g = ArrayObjective(network, X[rows], y[rows], dtype=np.float64, n_partitions=1, weights=weights[rows])
    point, expected = f.linearize(theta, sample, preconditioner="fisher"), g.linearize(theta, preconditioner="fisher")
    for name in ("hessian", "gauss_newton"):
        assert relative(getattr(point, name)().matvec(theta), getattr(expected, name)().matvec(theta)) <= 1e-12
    assert relative(fisher_of(point), fisher_of(expected)) <= 1e-12
    assert f.value_and_gradient(theta, sample)[0] == pytest.approx(g.value(theta), rel=1e-12)
    along = f.values_along(theta, theta, [0.5], sample)
    np.testing.assert_allclose(along, g.values_along(theta, theta, [0.5]), rtol=1e-12)


def test_a_sample_without_weight_is_refused():
    network, X, y, theta, weights = problem()
    weights[:] = 0
    weights[17] = 1
    f = ArrayObjective(network, X, y, weights=weights)
    theta = theta.astype(np.float32)
    assert np.isfinite(f.value(theta))
    with pytest.raises(DataError, match=r"weight 0.*larger samples"):
        [f.value_and_gradient(theta, RowSample(2, draw=k)) for k in range(5)]


def test_errors_count_rows_not_weights():
    network, X, y, theta, weights = problem()
    z = np.array([loops.row_outputs(network, theta, x) for x in X])
    wrong = z.argmax(axis=1) != y
    f = ArrayObjective(network, X, y, dtype=np.float64, weights=weights)
    assert f.value_and_error(theta)[1] == pytest.approx(wrong[weights > 0].mean(), rel=1e-15)


def test_rounds_and_bytes():
    network, X, y, theta, weights = problem()
    theta = theta.astype(np.float32)
    counts = []
    for settings in ({}, {"weights": weights}):
        f = ArrayObjective(network, X, y, **settings)
        f.linearize(theta, 100).hessian().matvec(theta + 1)
        f.values_along(theta, theta, [1.0])
        counts.append((f.counters.rounds, f.counters.nbytes, f.counters.row_reads))
    assert np.subtract(*counts[::-1]).tolist() == [0, 3 * 16, 0]


@pytest.mark.parametrize("exponent", [-1070, -600, -45, 41, 900])
def test_only_ratios_matter_whatever_the_size(exponent):
    """A power of 2 changes no bit."""
    network, X, y, theta, weights = problem()
    whole = np.round(weights * 8)
    plain = ArrayObjective(network, X, y, weights=whole, l2=0.1, dtype=np.float64)
    f = ArrayObjective(network, X, y, weights=np.ldexp(whole, exponent), l2=0.1, dtype=np.float64)
    assert_same_bits(everything(f, theta), everything(plain, theta))


@given(st.lists(st.floats(0, 1e308), min_size=1, max_size=20), st.floats(0, 1))
@hypothesis.settings(max_examples=300)
def test_weights_are_brought_into_the_limits_by_their_ratios(values, share):
    """As by the exact quotients of integers."""
    weights = np.array([*values, 1e308 * share**50, 1.0])
    found = checked_weights("w", weights, len(weights))
    assert np.array_equal(found > 0, weights > 0)
    assert found[found > 0].min() >= 1e-12 and found.max() <= 1e12
    largest = int(weights.argmax())
    for i in np.flatnonzero(weights):
        exact = Fraction(weights[i]) / Fraction(weights[largest])
        if exact > Fraction(1, 10**23):
            assert Fraction(found[i]) / Fraction(found[largest]) == exact
        else:
            assert found[i] <= found[largest] * 1e-22
    usual = np.array([1e-12, 0.3, 0, 1e12])
    np.testing.assert_array_equal(checked_weights("w", usual, 4), usual)


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        (np.r_[np.ones(4), -1, -2], r"2 of 6 weights are negative, NaN or infinite; the first is -1.0 at row 4"),
        (np.r_[1, np.nan, np.ones(3), np.inf], r"2 of 6 weights .*nan at row 1"),
        (np.zeros(6), "all 6 weights are 0"),
        (np.ones(5), r"expected 6 weights, one for each row, got float64 of shape \(5,\)"),
        (np.ones((6, 2)), r"shape \(6, 2\)"),
        (["1"] * 6, "got <U1"),
        (2.0, r"shape \(\)"),
    ],
)
def test_what_are_no_weights(weights, complaint):
    with pytest.raises(DataError, match=complaint):
        ArrayObjective(Network([2, 2]), np.zeros((6, 2)), np.zeros(6, int), weights=weights)


@pytest.fixture(params=["rows", "frames"])
def store(request, tmp_path):
    """Rows or frames of four classes of unequal size, with weights."""
    rng, shares = np.random.default_rng(0), [0.6, 0.25, 0.1, 0.05]
    if request.param == "rows":
        X, y = rng.integers(0, 256, (2000, 30)).astype(np.uint8), rng.choice(4, 2000, p=shares)
        return write_store(tmp_path / "s.zarr", {"train": (X, y, rng.choice([0, 0.5, 3], 2000))}, n_partitions=8)
    utterances = [
        (rng.standard_normal((n, 6), dtype=np.float32), rng.choice(4, n, p=shares), rng.uniform(0, 2, n))
        for n in rng.integers(30, 60, 40)
    ]
    return write_frames(tmp_path / "s.zarr", {"train": utterances}, context=2, n_partitions=8)


CLASS_WEIGHTS = (0.1, 1.0, 0.0, 4.0)


def in_memory(split):
    """The rows of a split and what they weigh."""
    parts = [(*split.load(j), split.load_labels(j)[1]) for j in range(split.n_partitions)]
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def test_a_store_with_class_weights_is_its_rows_with_the_products(store):
    split = store["train"]
    X, y, weights = in_memory(split)
    network = Network([split.n_features, 9, 4])
    theta = network.initialize(0)
    for class_weights, own in ((None, weights), (CLASS_WEIGHTS, weights * np.array(CLASS_WEIGHTS)[y])):
        with (
            SplitObjective(network, split, class_weights=class_weights) as f,
            ArrayObjective(network, X, y, scale=split.scale, weights=own) as g,
        ):
            assert_close(everything(f, theta), everything(g, theta), 1e-5)


def test_balanced_classes_weigh_the_same(store):
    split = store["train"]
    _, y, weights = in_memory(split)
    found = balanced(split)
    sums = [weights[y == c].sum(dtype=float) * found[c] for c in range(4)]
    np.testing.assert_allclose(sums, weights.sum(dtype=float) / 4, rtol=1e-6)


def test_balanced_weights_are_those_of_scikit_learn(tmp_path):
    y = np.random.default_rng(0).choice(4, 300, p=[0.6, 0.25, 0.1, 0.05])
    split = write_store(tmp_path / "s.zarr", {"train": (np.zeros((300, 2), np.float32), y)})["train"]
    expected = compute_class_weight("balanced", classes=np.arange(4), y=y)
    np.testing.assert_allclose(balanced(split), expected, rtol=1e-15)


def test_a_class_without_rows_weighs_one(tmp_path):
    X, y = np.zeros((6, 2), np.float32), np.array([0, 0, 0, 0, 2, 2])
    split = write_store(tmp_path / "s.zarr", {"train": (X, y)}, n_classes=4)["train"]
    assert balanced(split) == (0.75, 1.0, 1.5, 1.0)


@pytest.mark.bits
def test_the_bits_do_not_depend_on_threads_or_memory(store):
    split = store["train"]
    network = Network([split.n_features, 9, 4])
    theta = network.initialize(0)

    def of(**settings):
        with SplitObjective(network, split, class_weights=CLASS_WEIGHTS, **settings) as f:
            return everything(f, theta, RowSample(300, seed=1)) + everything(f, theta)

    reference = of(n_threads=1)
    largest = max(sum(a.nbytes for a in split.load(j)) for j in range(8)) * 4
    for settings in (
        {"n_threads": 2},
        {"cache_rows": False},
        {"n_threads": 2, "memory": 5 * largest + reserved_nbytes(network, split, np.dtype(np.float32), 2)},
    ):
        assert_same_bits(of(**settings), reference)


@pytest.mark.bits
def test_the_bits_do_not_depend_on_workers(store, client):
    split = store["train"]
    network = Network([split.n_features, 9, 4])
    theta = network.initialize(0)
    for class_weights in (None, CLASS_WEIGHTS):
        with (
            SplitObjective(network, split, class_weights=class_weights) as here,
            DaskObjective(network, split, client, class_weights=class_weights) as there,
        ):
            for sample in (None, RowSample(300, seed=1)):
                assert_same_bits(everything(there, theta, sample), everything(here, theta, sample))


@pytest.mark.parametrize("weights", [(1.0, 2.0), (1.0, -1.0, 1.0, 1.0), (0.0,) * 4, (1.0, np.nan, 1.0, 1.0)])
def test_what_are_no_class_weights(store, weights):
    split = store["train"]
    with pytest.raises(UsageError, match="weight"):
        SplitObjective(Network([split.n_features, 4]), split, class_weights=weights)


def test_regression_has_no_classes(tmp_path):
    X = np.zeros((6, 2), np.float32)
    split = write_store(tmp_path / "s.zarr", {"train": (X, np.arange(6.0))})["train"]
    for call in (lambda: balanced(split), lambda: SplitObjective(Network([2, 1]), split, class_weights=(1.0,))):
        with pytest.raises(UsageError, match="regression"):
            call()
