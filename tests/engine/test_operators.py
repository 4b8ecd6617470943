"""Curvature operators: several products in a round, blocks of layers, traces and spectra of dense matrices."""

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse.linalg as sla

import hfnumba as hf
from hfnumba.krylov import BlockDiagonalOperator


@pytest.fixture(scope="module")
def curvature():
    rng = np.random.default_rng(0)
    network = hf.Network([6, 5, 3])
    X, y = rng.standard_normal((90, 6)), rng.integers(0, 3, 90)
    objective = hf.ArrayObjective(network, X, y, l2=0.01, n_partitions=3)
    theta = network.initialize(0) + 0.3 * rng.standard_normal(network.n_params).astype(np.float32)
    return objective, objective.linearize(theta, hf.RowSample(50))


@pytest.mark.bits
@pytest.mark.parametrize("kind", ["hessian", "gauss_newton", "fisher", "empirical_fisher"])
def test_columns_share_rounds_and_have_the_bits_of_single_products(curvature, kind):
    objective, linearization = curvature
    H = getattr(linearization, kind)()
    V = np.random.default_rng(1).standard_normal((objective.n_params, 11)).astype(np.float32)
    # Equal columns, and one that is a view with other strides.
    V[:, 3] = V[:, 2]
    before = objective.counters.rounds
    products = H @ V
    assert objective.counters.rounds - before == 2
    np.testing.assert_array_equal(products, np.stack([H @ V[:, j] for j in range(11)], axis=1))
    np.testing.assert_array_equal(((H + 0.5) @ V), products + np.float32(0.5) * V)
    assert H.shape == (53, 53) and H.dtype == np.float32
    assert (H @ V[:, :0]).shape == (53, 0)


def test_large_vectors_travel_one_by_one(curvature, monkeypatch):
    objective, linearization = curvature
    monkeypatch.setattr("hfnumba.engine.linearization._AT_ONCE_BYTES", 1)
    before = objective.counters.rounds
    _ = linearization.hessian() @ np.eye(53, 5, dtype=np.float32)
    assert objective.counters.rounds - before == 5


def test_blocks_of_layers(curvature):
    H = curvature[1].hessian()
    dense = H @ np.eye(53, dtype=np.float32)
    blocks = H.layer_blocks()
    parts = [dense[:35, :35], dense[35:, 35:]]
    for block, part in zip(blocks, parts, strict=True):
        np.testing.assert_array_equal(block @ np.eye(len(part), dtype=np.float32), part)
    v = np.random.default_rng(2).standard_normal(53).astype(np.float32)
    together = BlockDiagonalOperator(blocks)
    np.testing.assert_allclose(together @ v, scipy.linalg.block_diag(*parts) @ v, atol=1e-5)
    assert blocks[0].trace(exact=True).value == pytest.approx(np.trace(parts[0]), rel=1e-5)


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton", "empirical_fisher"])
def test_spectrum_of_a_network_is_that_of_the_dense_matrix(curvature, kind):
    H = getattr(curvature[1], kind)()
    dense = (H @ np.eye(53, dtype=np.float32)).astype(np.float64)
    values = np.linalg.eigvalsh((dense + dense.T) / 2)
    found = hf.spectrum(H, steps=53, extreme=3)
    largest = np.abs(values).max()
    np.testing.assert_allclose([one.value for one in found.highest], values[:-4:-1], atol=1e-5 * largest)
    np.testing.assert_allclose([one.value for one in found.lowest], values[:3], atol=1e-5 * largest)
    np.testing.assert_allclose(sla.eigsh(H.to_scipy(), 3, which="LA")[0][::-1], values[:-4:-1], atol=1e-5 * largest)
    count, slack = found.n_negative, 4 * found.n_negative.standard_error + 1e-6
    assert count.lower - slack <= np.count_nonzero(values < -found.flat) <= count.upper + slack
    assert H.trace(exact=True).value == pytest.approx(values.sum(), rel=1e-4)
    np.testing.assert_allclose(H.diagonal(exact=True).value, np.diag(dense), atol=1e-6)


def test_representations_say_what_is_known_without_a_product():
    network = hf.Network((3, 2, 2))
    objective = hf.ArrayObjective(network, np.eye(3), [0, 1, 1])
    found = objective.linearize(network.initialize(0))
    H = found.gauss_newton()
    assert repr(found) == f"<RoundLinearization: f = {found.value:.6g}, 14 parameters, curvature on 3 rows>"
    assert repr(H) == "<CurvatureOperator: 14 × 14, float32>"
    assert repr(H + 0.5) == "<Shifted: 14 × 14, float32>"
    assert repr(2 * H + H) == "<Sum: 14 × 14, float32>"
