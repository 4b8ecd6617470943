"""The diagonal of the empirical Fisher matrix: against JAX and the gradients of single rows; its round and its bits."""

import numpy as np
import pytest
from distributed import Client, LocalCluster

from hfnumba.engine import ArrayObjective
from hfnumba.engine.host import PartitionHost
from hfnumba.errors import UsageError
from hfnumba.network import ACTIVATIONS, LOSSES, Network
from hfnumba.objective import RowSample
from tests.engine.cluster import test_engine
from tests.oracles.jax_network import row_gradients


def fisher_of(point):
    """The diagonal that came with a linearization."""
    return point.point.sums["fisher_diagonal"]


def store_nothing(monkeypatch):
    """As if there were no memory for primal passes."""
    monkeypatch.setattr(PartitionHost, "new_primal", lambda self, j, sample: np.empty(0, self.dtype))


def problem(activation="tanh", loss="softmax_cross_entropy", hidden=(5, 4), n_rows=13):
    rng = np.random.default_rng(0)
    network = Network([6, *hidden, 3], activation, loss)
    X = rng.standard_normal((n_rows, 6))
    y = rng.integers(0, 3, n_rows) if network.takes_labels else rng.uniform(0, 1, (n_rows, 3))
    theta = network.initialize(0, dtype=np.float64) + 0.2 * rng.standard_normal(network.n_params)
    return network, X, y, theta


@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_against_jax_row_by_row(activation, loss, hidden):
    network, X, y, theta = problem(activation, loss, hidden)
    rows = row_gradients(network, theta, X, y)
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 2e-5)):
        objective = ArrayObjective(network, X, y, dtype=dtype, n_partitions=3)
        fisher = fisher_of(objective.linearize(theta.astype(dtype), preconditioner="fisher"))
        np.testing.assert_allclose(fisher, (rows**2).mean(0), rtol=tolerance, atol=tolerance * (rows**2).max())


@pytest.mark.bits
@pytest.mark.parametrize("stored", [True, False], ids=["primal stored", "recomputed"])
@pytest.mark.parametrize("sizes", [(6, 4, 3), (2, 9, 40, 5), (40, 3, 2), (3, 700)])
@pytest.mark.parametrize("n_rows", [1, 255, 700])
def test_against_the_gradient_of_each_row_over_many_blocks(n_rows, sizes, stored, monkeypatch):
    if not stored:
        store_nothing(monkeypatch)
    rng = np.random.default_rng(1)
    network = Network(sizes, "sigmoid")
    # Many rows are the same few, so that few gradients have to be taken.
    X, y = rng.integers(0, 256, (5, sizes[0])).astype(np.uint8), rng.integers(0, sizes[-1], 5)
    which = rng.integers(0, 5, n_rows)
    theta = network.initialize(0, dtype=np.float64)
    settings = {"dtype": np.float64, "scale": 1 / 255, "offset": -0.5}
    squares = [ArrayObjective(network, X[[i]], y[[i]], **settings).linearize(theta).gradient ** 2 for i in range(5)]
    expected = sum(squares[i] for i in which) / n_rows
    f = ArrayObjective(network, X[which], y[which], n_partitions=1, **settings)
    fisher = fisher_of(f.linearize(theta, preconditioner="fisher"))
    np.testing.assert_allclose(fisher, expected, rtol=1e-11, atol=1e-16)


def images(n_threads=2, n_partitions=16, **settings):
    rng = np.random.default_rng(0)
    network = Network([12, 9, 4])
    X, y = rng.integers(0, 256, (1000, 12)).astype(np.uint8), rng.integers(0, 4, 1000)
    settings |= {"n_threads": n_threads, "n_partitions": n_partitions, "scale": 1 / 255}
    return ArrayObjective(network, X, y, **settings), network.initialize(0)


SAMPLE = RowSample(300, seed=1, draw=4)


@pytest.mark.bits
@pytest.mark.parametrize("rows", [None, SAMPLE])
def test_the_bits_of_everything_are_the_same_with_it_without_it_and_on_any_threads(rows, monkeypatch):
    f, theta = images()
    plain, point = f.linearize(theta, rows), f.linearize(theta, rows, preconditioner="fisher")
    assert not plain.point.sums
    for matrix in ("hessian", "gauss_newton"):
        np.testing.assert_array_equal(*(getattr(lin, matrix)().matvec(theta) for lin in (plain, point)))
    np.testing.assert_array_equal(plain.gradient, point.gradient)
    for n_threads in (1, 3, 8):
        again, _ = images(n_threads)
        np.testing.assert_array_equal(
            fisher_of(again.linearize(theta, rows, preconditioner="fisher")), fisher_of(point)
        )
    store_nothing(monkeypatch)
    np.testing.assert_array_equal(
        fisher_of(images()[0].linearize(theta, rows, preconditioner="fisher")), fisher_of(point)
    )


def test_it_is_the_mean_over_the_partitions_whatever_their_number():
    whole, theta = images(n_partitions=1, dtype=np.float64)
    reference = fisher_of(whole.linearize(theta.astype(np.float64), preconditioner="fisher"))
    for n_partitions in (2, 7, 16):
        parts, _ = images(n_partitions=n_partitions, dtype=np.float64)
        fisher = fisher_of(parts.linearize(theta.astype(np.float64), preconditioner="fisher"))
        np.testing.assert_allclose(fisher, reference, rtol=1e-12, atol=1e-18)


def test_it_bounds_the_squared_gradient():
    f, theta = images()
    point = f.linearize(theta, preconditioner="fisher")
    # The mean of squares is at least the square of the mean.
    assert (fisher_of(point) >= point.gradient**2 * (1 - 1e-4)).all()


def test_the_preconditioner_carries_the_penalty_and_the_damping():
    f, theta = images(l2=0.5)
    point = f.linearize(theta, SAMPLE, preconditioner="fisher")
    applied = point.preconditioner("fisher", 0.1).matvec(np.ones_like(theta))
    diagonal = fisher_of(point) + 0.5 * f.network.weights_only(np.ones_like(theta)) + 0.1
    np.testing.assert_allclose(applied, diagonal.astype(float) ** -0.75, rtol=1e-5)


def test_a_preconditioner_that_was_not_asked_for_is_refused():
    f, theta = images()
    with pytest.raises(UsageError, match="unknown preconditioner 'jacobi'; choose one of none, fisher"):
        f.linearize(theta, preconditioner="jacobi")
    with pytest.raises(UsageError, match="give linearize the name"):
        f.linearize(theta).preconditioner("fisher", 0.1)


def test_it_costs_no_round_one_vector_and_one_reading_of_the_sample():
    f, theta = images()
    counts = []
    for k, preconditioner in enumerate(("none", "fisher")):
        before = (f.counters.rounds, f.counters.nbytes, f.counters.row_reads)
        point = f.linearize(theta + np.float32(k), SAMPLE, preconditioner=preconditioner)
        after = (f.counters.rounds, f.counters.nbytes, f.counters.row_reads)
        counts.append(np.subtract(after, before))
        del point
    assert (counts[1] - counts[0]).tolist() == [0, theta.nbytes, SAMPLE.n_rows]


def test_its_primal_pass_is_that_of_the_products(monkeypatch):
    f, theta = images()
    computed = []
    new = PartitionHost.new_primal
    monkeypatch.setattr(PartitionHost, "new_primal", lambda self, j, sample: computed.append(j) or new(self, j, sample))
    point = f.linearize(theta, SAMPLE, preconditioner="fisher")
    assert len(computed) == 16
    point.hessian().matvec(theta)
    assert len(computed) == 16


@pytest.mark.slow
def test_the_same_bits_on_worker_processes():
    sample = RowSample(700, seed=1)
    with test_engine.objective() as here:
        expected = fisher_of(here.linearize(test_engine.NETWORK.initialize(0), sample, preconditioner="fisher"))
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
        test_engine.objective(client) as there,
    ):
        point = there.linearize(test_engine.NETWORK.initialize(0), sample, preconditioner="fisher")
        np.testing.assert_array_equal(fisher_of(point), expected)
