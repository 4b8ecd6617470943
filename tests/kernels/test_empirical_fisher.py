"""Products with the empirical Fisher matrix, against JAX and against the gradients of single rows."""

import numpy as np
import pytest

from hfnumba.engine import ArrayObjective
from hfnumba.network import LOSSES, Network
from tests.kernels.test_fisher_diagonal import problem, store_nothing
from tests.oracles.jax_network import row_gradients


@pytest.mark.parametrize(("hidden", "activation"), [((), "tanh"), ((5, 4), "tanh"), ((5, 4), ("gelu", "relu"))])
@pytest.mark.parametrize("loss", LOSSES)
def test_against_jax_row_by_row(loss, hidden, activation):
    network, X, y, theta = problem(activation, loss, hidden)
    g = row_gradients(network, theta, X, y)
    V = np.random.default_rng(1).standard_normal((network.n_params, 3))
    weights = np.random.default_rng(2).uniform(0, 3, len(X)) * (np.arange(len(X)) != 4)
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 5e-5)):
        f = ArrayObjective(network, X, y, dtype=dtype, n_partitions=3)
        product = f.linearize(theta.astype(dtype)).empirical_fisher() @ V.astype(dtype)
        expected = g.T @ (g @ V) / len(X)
        np.testing.assert_allclose(product, expected, atol=tolerance * np.abs(expected).max())
        f = ArrayObjective(network, X, y, dtype=dtype, n_partitions=3, weights=weights)
        product = f.linearize(theta.astype(dtype)).empirical_fisher() @ V.astype(dtype)
        expected = g.T @ (weights[:, None] * (g @ V)) / weights.sum()
        np.testing.assert_allclose(product, expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("stored", [True, False], ids=["primal stored", "recomputed"])
def test_over_many_blocks(stored, monkeypatch):
    if not stored:
        store_nothing(monkeypatch)
    rng = np.random.default_rng(1)
    network = Network((2, 9, 40, 5), ("silu", "sigmoid"))
    X, y = rng.integers(0, 256, (5, 2)).astype(np.uint8), rng.integers(0, 5, 5)
    which = rng.integers(0, 5, 700)
    theta, settings = network.initialize(0, dtype=np.float64), {"dtype": np.float64, "scale": 1 / 255}
    g = np.stack([ArrayObjective(network, X[[i]], y[[i]], **settings).linearize(theta).gradient for i in range(5)])
    f = ArrayObjective(network, X[which], y[which], n_partitions=2, l2=0.5, **settings)
    v = rng.standard_normal(network.n_params)
    expected = g[which].T @ (g[which] @ v) / 700 + 0.5 * network.weights_only(v)
    np.testing.assert_allclose(f.linearize(theta).empirical_fisher() @ v, expected, rtol=1e-10, atol=1e-14)
