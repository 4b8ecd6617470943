import gc
import threading
import tracemalloc

import numpy as np
import pytest

from hfnumba.engine import ArrayObjective
from hfnumba.engine.evaluations import OF_PRECONDITIONER, Loss
from hfnumba.engine.memory import Budget
from hfnumba.engine.vectors import VectorTable
from hfnumba.errors import DataError, UsageError
from hfnumba.krylov.preconditioners import PRECONDITIONERS
from hfnumba.network import Network
from hfnumba.objective import RowSample
from tests.laws.objective_laws import check_objective, check_sample
from tests.limits import LIMIT_S


def objective(n_threads=2, n=1000, **settings):
    rng = np.random.default_rng(0)
    network = Network([12, 9, 4])
    X, y = rng.integers(0, 256, (n, 12)).astype(np.uint8), rng.integers(0, 4, n)
    return ArrayObjective(network, X, y, scale=1 / 255, n_threads=n_threads, **settings), network.initialize(0)


@pytest.mark.parametrize("l2", [0.0, 0.01])
@pytest.mark.parametrize("curvature_rows", [None, 300, 10**6])
def test_laws(l2, curvature_rows):
    f, theta = objective(l2=l2)
    check_objective(f, theta, 1e-5, curvature_rows)
    check_sample(f, theta)


def everything(f, theta):
    point = f.linearize(theta, RowSample(300, seed=1, draw=4))
    v = np.arange(f.n_params, dtype=np.float32) / f.n_params
    along = f.values_along(theta, [v, -v], [1.0, 0.25], RowSample(200, seed=2))
    return [point.value, point.gradient, point.hessian().matvec(v), point.gauss_newton().matvec(v), along]


@pytest.mark.bits
def test_bits_do_not_depend_on_threads():
    reference = everything(*objective(n_threads=1))
    for n_threads in (2, 3, 16):
        for a, b in zip(everything(*objective(n_threads=n_threads)), reference, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.bits
def test_a_primal_pass_that_does_not_fit_is_recomputed_to_the_same_bits(monkeypatch):
    reference = everything(*objective())
    monkeypatch.setattr(Budget, "take", lambda self, n: False)
    for a, b in zip(everything(*objective()), reference, strict=True):
        np.testing.assert_array_equal(a, b)


def test_only_a_lack_of_memory_is_reported(caplog, monkeypatch):
    f, theta = objective(n_partitions=16)
    f.linearize(theta, 8).hessian().matvec(theta)  # half of the partitions have no row in the sample
    assert "too little memory" not in caplog.text
    monkeypatch.setattr(Budget, "take", lambda self, n: False)
    for _ in range(2):
        f.linearize(theta, 300).hessian().matvec(theta)
    assert caplog.text.count("too little memory") == 1
    assert "those of 16 of 16 partitions" in caplog.text


def test_every_preconditioner_has_its_evaluation():
    assert OF_PRECONDITIONER.keys() == PRECONDITIONERS.keys()


def test_l2_penalises_weights_not_biases():
    plain, theta = objective()
    penalised, _ = objective(l2=0.5)
    theta = theta + np.float32(0.1)
    weights = plain.network.weights_only(theta).astype(float)
    a, b = plain.linearize(theta), penalised.linearize(theta)
    assert np.isclose(b.value - a.value, 0.25 * weights @ weights)
    np.testing.assert_allclose(b.gradient - a.gradient, 0.5 * weights, atol=1e-5)
    v = np.ones_like(theta)
    difference = b.hessian().matvec(v) - a.hessian().matvec(v)
    np.testing.assert_allclose(difference, 0.5 * plain.network.weights_only(v), atol=1e-5)
    np.testing.assert_allclose(
        penalised.values_along(theta, v, [0.5]), penalised.value(theta + np.float32(0.5) * v), rtol=1e-5
    )


def test_rounds_bytes_and_rows_are_counted():
    f, theta = objective()
    n, size = f.n_rows, theta.nbytes
    point = f.linearize(theta, 300)
    assert (f.counters.rounds, f.counters.nbytes, f.counters.row_reads) == (1, 2 * size + 16, n)
    v = theta + 1
    point.hessian().matvec(v)
    # Theta is there already: only v goes out.
    assert (f.counters.rounds, f.counters.nbytes, f.counters.row_reads) == (2, 4 * size + 16, n + 300)
    f.values_along(theta, [v, v + 1], [1.0, 0.5, 0.25])
    assert f.counters.nbytes == 6 * size + 16 + 2 * 3 * 8
    assert f.counters.row_reads == 2 * n + 300
    f.value(theta)
    assert f.counters.nbytes == 6 * size + 16 + 2 * 3 * 8 + 16


def test_a_linearization_lives_as_long_as_its_operators():
    f, theta = objective()
    operator = f.linearize(theta, 300).hessian()
    gc.collect()
    before = operator.matvec(theta)
    f.value_and_gradient(theta + 1)
    np.testing.assert_array_equal(operator.matvec(theta), before)
    del operator
    gc.collect()
    assert not f.vectors.live


def test_changing_the_callers_vector_changes_nothing():
    f, theta = objective()
    mine = theta.copy()
    operator = f.linearize(mine, 300).hessian()
    before = operator.matvec(theta)
    mine[:] = 0
    np.testing.assert_array_equal(operator.matvec(theta), before)


def test_names_are_never_reused():
    table = VectorTable()
    a = np.ones(3)
    with table.using(a) as first, table.using(a.copy()) as same:
        assert first == same
        assert table.take_nbytes() == a.nbytes
    with table.using(a) as later:
        assert later != first
    assert not table.live


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda f, t: f.value(t[:-1]), "shape"),
        (lambda f, t: f.values_along(t, t[:-1], [1.0]), "directions"),
        (lambda f, t: f.linearize(t, 0), "at least 1 row"),
        (lambda f, t: f.minibatch(t, RowSample(5, part=-1)), "at least 1 row, got .*part=-1"),
        (lambda f, t: f.linearize(t).hessian().matvec(t[1:]), "shape"),
    ],
)
def test_wrong_shapes_are_refused(call, said):
    with pytest.raises(UsageError, match=said):
        call(*objective())


def test_impossible_settings_are_refused():
    network, X, y = Network([2, 2]), np.zeros((4, 2)), np.zeros(4, int)
    with pytest.raises(UsageError, match="l2"):
        ArrayObjective(network, X, y, l2=-1.0)
    with pytest.raises(UsageError, match="1 thread"):
        ArrayObjective(network, X, y, n_threads=0)
    with pytest.raises(UsageError, match="float32 or float64"):
        ArrayObjective(network, X, y, dtype=np.float16)
    with pytest.raises(DataError, match="label"):
        ArrayObjective(network, X, y + 2)


def test_operators_convert_to_scipy():
    from scipy.sparse.linalg import eigsh

    f, theta = objective(n=200)
    operator = f.linearize(theta).gauss_newton()
    largest = eigsh(operator.to_scipy(), k=1, return_eigenvectors=False)[0]
    dense = np.stack([operator.matvec(e) for e in np.eye(f.n_params, dtype=np.float32)])
    assert np.isclose(largest, np.linalg.eigvalsh(dense.astype(float))[-1], rtol=1e-4)


def test_a_point_that_is_protected_later_is_no_other_type_to_the_kernels():
    f, theta = objective()
    linearization = f.linearize(theta, 300)
    H = linearization.hessian()
    before = H.matvec(theta)
    linearization.theta.setflags(write=False)
    assert np.array_equal(H.matvec(theta), before)
    assert all(vector.flags.writeable for vector in f._engine._host.vectors.values())


def test_rows_of_partitions_that_went_elsewhere_are_dropped():
    f, theta = objective(n_partitions=4)
    host = f._engine._host
    host.receive({"t": theta}, ["t"])
    everyone, half = range(4), range(2)
    assert f.linearize(theta, 300).hessian().matvec(theta).any()
    assert set(host._cache._cached) == set(everyone)
    host.receive({"t": theta}, ["t"])
    for _ in range(70):
        host.evaluate((Loss("t"),), half)
    assert set(host._cache._cached) == set(half)
    host.evaluate((Loss("t"),), everyone)
    assert set(host._cache._cached) == set(everyone)


def allocate_scratch(host):
    """Let every thread have its scratch memory, which a thread without work would get later."""
    met = threading.Barrier(host.n_threads, timeout=LIMIT_S)

    def task():
        met.wait()
        host.arguments(host.rows(0, None))

    host._team.run([task] * host.n_threads)


def peak_bytes(call):
    call()
    gc.collect()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("n_threads", [1, 2])
def test_memory_of_evaluations_is_what_the_docstrings_say(n_threads):
    rng = np.random.default_rng(0)
    network = Network([300, 200, 700])
    X, y = rng.standard_normal((4096, 300), dtype=np.float32), rng.integers(0, 700, 4096)
    f, theta = ArrayObjective(network, X, y, n_threads=n_threads), network.initialize(0)
    allocate_scratch(f._engine._host)
    vector, primal = theta.nbytes, 2 * 900 * 4
    # One partial sum a thread and a level of the tree of 16 partitions, and copies of what comes in.
    vectors = (n_threads + 4 + 3) * vector
    slack = 200_000
    assert peak_bytes(lambda: f.value(theta)) <= 2 * vector + slack
    assert peak_bytes(lambda: f.value_and_gradient(theta)) <= vectors + slack
    assert peak_bytes(lambda: f.linearize(theta)) <= vectors + 4096 * primal + slack
    point = f.linearize(theta)
    for operator in (point.hessian(), point.gauss_newton()):
        assert peak_bytes(lambda op=operator: op.matvec(theta)) <= vectors + slack
    tails = 8 * (theta.size - 300 * 200) * 4
    # NumPy needs the product alpha d while it adds theta.
    assert peak_bytes(lambda: f.values_along(theta, theta, 0.5 ** np.arange(8))) <= 2 * tails + 4 * vector + slack
